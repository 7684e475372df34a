from typing import final

@final
class Judge: ...
