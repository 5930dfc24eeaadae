"""claim → gate → compose → sign → begin → send → settle.

Data flows down, capacity flows up: a claim takes what the lanes have room for, and
begin takes what an idle session holds in its hand.

    claimer   takes due jobs, asks the gate, gives the mails that may go to their lanes
    site      the mails of one site that wait here, by pool, and whose session takes them
    lane      the sessions from one source to one site: when they open and close
    reception  what the lane has learnt from its mails: whether it is open, and what it bears
    places    how many of them there may be, agreed upon with other workers
    session   one of them: sign, begin, send, one mail after the other
    sources   which sources there are, and which of them are well
    allowances  what is left of the day of those that are being warmed up
    providers  what all sites of a provider share
    signer    composes and signs the next mails that sessions want, a short step per turn of the loop
    beginner  the commit after which an attempt may touch the network
    endings   verdicts and outcomes as rows for settle (pure)
"""

from mtad.pipeline.claimer import Pipeline

__all__ = ["Pipeline"]
