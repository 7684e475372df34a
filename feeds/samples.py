"""What belongs to the synthetic session: its symbols, their instruments, and limits that fit it."""

from __future__ import annotations

SYMBOLS = (
    "ORCA", "VOLT", "LYNX", "ACME", "NOVA", "PIKE", "ZEST", "KITE", "MIRA", "TUSK",
    "BOLT", "CRUX", "DUNE", "ECHO", "FLUX", "GLYP", "HALO", "IRIS", "JADE", "KNOT",
    "LUMA", "MOSS", "NEON", "OPAL", "PYRE", "QUAY", "RUNE", "SAGE", "TARN", "URSA",
    "VALE", "WREN", "XENO", "YARN", "ZINC", "APEX", "BRIO", "CODA", "DELT", "EMBR",
    "FERN", "GALE", "HEXA", "ISLE", "JOLT", "RHEIN", "SEINE", "TIBER", "DONAU", "ELBE",
)  # fmt: skip

SAMPLE_INSTRUMENTS = """\
symbol,multiplier,currency,price_exponent,quantity_exponent
RHEIN,1,EUR,-2,0
SEINE,1,EUR,-2,0
TIBER,1,EUR,-2,0
DONAU,1,EUR,-2,0
ELBE,1,EUR,-2,0
*,1,USD,-9,-8
"""

SAMPLE_LIMITS = """\
# Limits for the session that riskwire demo makes. `riskwire limits check FILE` explains a mistake.

[settings]
base_currency = "USD"
revalue_every = "100ms"

[settings.fx]
EUR = "1.08"

[[limit]]
id        = "position"                # shares of one symbol in one account
kind      = "max_position"
per       = ["account", "symbol"]
threshold = "20000"
clear_at  = 0.7

[[limit]]
id        = "prop-notional"           # the prop desks' money in one symbol
kind      = "max_notional"
per       = ["account", "symbol"]
match     = { account = "PROP*" }
threshold = "3000000"
clear_at  = 0.6

[[limit]]
id        = "fat-finger"              # one trade
kind      = "max_trade_notional"
per       = ["account"]
threshold = "500000"
warn_at   = 1.0

[[limit]]
id        = "prop-size"
kind      = "max_trade_volume"
per       = ["account"]
match     = { account = "PROP*" }
threshold = "2400"
warn_at   = 1.0

[[limit]]
id        = "prop-rate"               # trades a second
kind      = "trade_rate"
per       = ["account"]
match     = { account = "PROP*" }
window    = "1s"
threshold = "40"

[[limit]]
id        = "collar"                  # percent off the mark
kind      = "price_collar"
per       = ["symbol"]
threshold = "5"

[[limit]]
id        = "blocked"                 # nobody trades this here
kind      = "restricted"
per       = ["account", "symbol"]
match     = { account = "FUND01", symbol = "ELBE", venue = "BATS" }

[[limit]]
id        = "prop-loss"               # since the session started
kind      = "max_loss"
per       = ["account"]
match     = { account = "PROP*" }
threshold = "150000"
clear_at  = 0.5

[[limit]]
id        = "prop-gross"              # all the money a prop desk has in the market
kind      = "gross_notional"
per       = ["account"]
match     = { account = "PROP*" }
threshold = "15000000"
clear_at  = 0.6
"""
