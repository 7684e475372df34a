"""Workers that ship with riskwire."""
