"""A client without manners: all that it has to say in one write."""

import asyncio


async def talk(port: int, said: bytes) -> list[str]:
    """The codes of the answers, the banner's first, until the server has answered all or closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    writer.write_eof()
    heard = (await reader.read()).decode().splitlines()
    writer.close()
    await writer.wait_closed()
    return [line[:3] for line in heard if line[3:4] == " "]
