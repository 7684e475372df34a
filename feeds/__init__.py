"""Recorded feeds: files of trades as frames of records, whatever their format (DESIGN section 9)."""

from feeds.errors import FeedError, JournalFeed
from feeds.feed import Feed
from feeds.opening import open_feed

__all__ = ["Feed", "FeedError", "JournalFeed", "open_feed"]
