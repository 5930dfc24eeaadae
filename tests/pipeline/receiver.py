"""A receiving server that says yes to everything and remembers from which address each mail came."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

ANSWERS = {"EHLO": b"250 hi\r\n", "MAIL": b"250 ok\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n",
           "QUIT": b"221 bye\r\n", "RSET": b"250 ok\r\n"}  # fmt: skip


class Receiver:
    """`async with Receiver() as receiver:` listens on 127.0.0.1; mails are answered while `answers` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: Counter[str] = Counter()  # by the address they came from
        self.names: dict[str, str] = {}  # what that said in EHLO
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()  # the most that were open at once
        self.answers = asyncio.Event()
        self.answers.set()
        self.refuses = b""  # the answer to RCPT, where it is not yes
        self.refused: set[str] = set()  # the addresses that hear it; empty: all

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: str = writer.get_extra_info("peername")[0]
        self.open[peer] += 1
        self.most[peer] = max(self.most[peer], self.open[peer])
        try:
            writer.write(b"220 here\r\n")
            while line := await reader.readline():
                verb, _, rest = line.decode().strip().partition(" ")
                refuses = self.refuses if not self.refused or peer in self.refused else b""
                writer.write((verb == "RCPT" and refuses) or ANSWERS[verb.upper()])
                if verb == "EHLO":
                    self.names[peer] = rest
                elif verb == "DATA" and not refuses:
                    await reader.readuntil(b"\r\n.\r\n")
                    await self.answers.wait()
                    self.mails[peer] += 1
                    writer.write(b"250 taken\r\n")
                elif verb == "QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open[peer] -= 1
            writer.close()
