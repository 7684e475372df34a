"""A worker's handler: keep every trade above 100,000 in a table, each once, whatever crashes in between.

riskwire worker --queue big-trades --handler big_trades:handle --processed big-trades.db
"""


def handle(event, context):
    value = event.price * event.volume
    if value < 100_000:
        return
    with context.once() as db:
        if db is None:  # an earlier attempt has done it
            return
        db.execute("CREATE TABLE IF NOT EXISTS big_trades (seq INTEGER, trade_id TEXT, account TEXT, value TEXT)")
        row = (context.seq, event.trade_id, event.account, str(value))
        db.execute("INSERT INTO big_trades VALUES (?, ?, ?, ?)", row)
