"""A worker that takes many events at a time and counts each account's trades, each of them once.

riskwire worker --queue counts --handler trades_by_account:handle --batch 500 --processed counts.db
"""


def handle(events, context):
    with context.once() as db:
        if db is None:  # an earlier attempt has done all of it
            return
        db.execute("CREATE TABLE IF NOT EXISTS counts (account TEXT PRIMARY KEY, trades INTEGER)")
        count = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (account) DO UPDATE SET trades = trades + 1"
        db.executemany(count, [(event.account,) for _, event in context.fresh])
