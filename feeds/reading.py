"""What every source of a feed is told besides its file: what stands in for what the file lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ext.feedwriter import RowRules


def id_prefix(first: bytes) -> bytes:
    """What made trade ids begin with, by the first data record's bytes (DESIGN section 9)."""
    import hashlib  # not every feed needs it, and it takes its time to load

    return hashlib.sha256(first).hexdigest()[:16].encode()


@dataclass(frozen=True, slots=True)
class Reading:
    """``side``: buy, sell or tick, where a feed has none. ``account``: of records that name none. ``accounts`` > 0:
    these go to one of so many accounts instead, by a hash of ``seed``, symbol and trade id. ``as_marks``: trades and
    quotes become MarkPrice events. ``lenient``: a FIX message is taken in spite of its checksum and length.
    """

    side: str | None = None
    account: str | None = None
    accounts: int = 0
    seed: int = 0
    as_marks: bool = False
    lenient: bool = False

    @property
    def account_name(self) -> str:
        """The account of records that name none."""
        return "default" if self.account is None else self.account

    def without_side(self) -> Reading:
        """The same for records that say their side."""
        return replace(self, side=None)

    def rules(
        self,
        *,
        id_prefix: bytes | None = None,
        side_texts: Mapping[str, int] | None = None,
        price_shift: int = 0,
        time_base_ns: int = 0,
        time_unit_ns: int = 0,
        keep: tuple[str, ...] = (),
    ) -> RowRules:
        """The rules of rows; ``id_prefix`` where their ids are made."""
        return RowRules(
            side=None if self.as_marks else self.side,
            account=self.account_name,
            id_prefix=id_prefix,
            side_texts=dict(side_texts) if side_texts else None,
            price_shift=price_shift,
            time_base_ns=time_base_ns,
            time_unit_ns=time_unit_ns,
            as_marks=self.as_marks,
            spread=self.accounts,
            seed=self.seed,
            keep=keep,
        )
