"""claim → gate → compose → sign → begin → send → settle.

Data flows down, capacity flows up: a claim takes what the lanes have room for, and
begin takes what an idle session holds in its hand.

    claimer     takes due jobs, asks the gate, gives the mails that may go to their sites
    site        the mails of one site that wait here, by pool, and whose session takes them
    backlog     what waits for one pool, class by class (pure)
    lane        the sessions from one source to one site: when they open and close
    session     one of them: sign, begin, send, one mail after the other
    places      how many of them there may be
    reception   what became of a lane's mails, and what that allows
    door        whether a lane is open, and for how long it closes (pure)
    sources     which sources there are, and which of them are well
    allowances  what is left of the day of those that are being warmed up
    sessions, dials, providers   limits that the workers share: of lanes, of new connections, of providers
    signer      composes and signs the next mails that sessions want, a short step per turn of the loop
    beginner    the commit after which an attempt may touch the network
    endings     verdicts and outcomes as rows for settle (pure)
    watchdog    ends what makes no progress
    tools       what all lanes of a worker share of these
"""

from mtad.pipeline.claimer import Pipeline

__all__ = ["Pipeline"]
