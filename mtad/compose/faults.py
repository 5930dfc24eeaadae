"""What is wrong with one recipient's mail, found while it is composed. Pure."""


class ContentFault(Exception):
    """This mail cannot be made for this contact; others of the message may well be.

    `reason` is `missing_value:NAME` or `content:WHAT`. It names no value, so that faults
    with one cause have one reason and can be counted (a program pauses itself on them).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
