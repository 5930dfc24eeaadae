"""What the housekeeper does, and how often."""

from functools import partial

from engine import service as engine
from engine.service import Catalogue
from mtad.base.clock import SystemClock
from mtad.base.config import Config, seconds
from mtad.base.db import Pool
from mtad.consent import signup
from mtad.ops import probe, retention, sites, standing
from mtad.ops.depth import Depth
from mtad.ops.ears import Ears
from mtad.ops.housekeeper import Sweep
from mtad.ops.keyfiles import read_networks
from mtad.ops.locator import Locator
from mtad.ops.moves import Movers
from mtad.ops.probe import Probe
from mtad.outcome import automation, quota
from mtad.queue import advance, enqueue, newcomers, programs, store, suspensions, workers
from mtad.queue.workers import Heart
from mtad.shape.layers import Shaper
from tracker import service as tracker


def sweeps(
    config: Config, pool: Pool, catalogue: Catalogue, locator: Locator, heart: Heart, asking: Probe
) -> list[Sweep]:
    """What the housekeeper does, and how often."""
    in_doubt = config.in_doubt_intervals
    asks = config.tracker.probe != "off"
    ears = Ears(pool, SystemClock())
    depth = Depth(pool, Shaper(config.shape, config.routes))

    async def free_the_dead() -> int:
        return await workers.free_the_dead(pool, in_doubt) if heart.steady else 0

    async def end_leases() -> int:
        async with pool.acquire() as conn:
            return await store.end_leases(conn)

    async def refresh_hints() -> int:
        async with pool.acquire() as conn:
            await store.refresh_hints(conn)
        return 0

    async def wake_proven() -> int:
        async with pool.acquire() as conn:
            return await store.wake_proven(conn)

    async def make_partitions() -> int:
        async with pool.acquire() as conn:
            await conn.execute("select make_partitions()")
        return 0

    async def start_scheduled() -> int:
        async with pool.acquire() as conn:
            names = await programs.ready_to_enqueue(conn)
        for name in names:
            async for _ in enqueue.enqueue(pool, config, name):
                pass
        return 0

    return [
        Sweep("free the dead", 2.0, free_the_dead),
        Sweep("end leases", 2.0, end_leases),
        # It mends what was lost, which is rare, and looks at every site.
        Sweep("refresh hints", 1.0, refresh_hints, least_rest=100),
        Sweep("wake proven", 1.0, wake_proven),
        Sweep("follow configuration", 3600.0, partial(sites.follow_configuration, pool, config)),
        Sweep("resolve domains", 0.5, partial(sites.resolve_domains, pool, locator)),
        Sweep("label jobs", 5.0, partial(sites.label_jobs, pool)),
        Sweep("move jobs", 1.0, Movers(pool).run),
        Sweep("start scheduled", 1.0, start_scheduled),
        Sweep("begin days", 30.0, partial(newcomers.begin_days, pool)),
        Sweep("take newcomers", 2.0, partial(newcomers.take_newcomers, pool, config)),
        Sweep("stop stranded reactivations", 10.0, partial(engine.stop_stranded, pool)),
        Sweep("advance entries", 0.25, partial(advance.advance, pool, catalogue, config)),
        Sweep("finish programs", 1.0, partial(advance.finish, pool)),
        Sweep("content faults", 2.0, partial(advance.pause_on_content_faults, pool)),
        Sweep(
            "ripen hits",
            0.15,
            tracker.ripener(pool, engine.fold_signs, engine.retell, read_networks(config), engine.offer),
            whole=True,
        ),
        Sweep("fold signs", 0.25, partial(engine.fold, pool)),
        Sweep("reach trackers", seconds(config.tracker.probe), asking.run)
        if asks
        else Sweep("reach trackers", 3600.0, partial(probe.forget, pool)),
        Sweep("tell of what is unheard", 60.0, ears.run, ears.end),
        Sweep("silence", 0.5, partial(engine.sweep, pool)),
        Sweep("limits of lanes", 1.0, partial(automation.sweep, pool)),
        Sweep(
            "campaigns that bounce",
            5.0,
            partial(automation.suspend_bouncing, pool, config.automation.bounce_share, config.automation.bounce_least),
        ),
        Sweep("expire held", 60.0, partial(suspensions.expire_held, pool, sites.NOWHERE)),
        Sweep("measure queue", 15.0, depth.measure, depth.end),
        Sweep("standing orders", 1.0, partial(standing.go_on, pool, config)),
        Sweep("full mailboxes", 3600.0, partial(quota.leave_full_mailboxes_alone, pool)),
        Sweep("forget unconfirmed", 60.0, partial(signup.sweep, pool)),
        Sweep("make partitions", 3600.0, make_partitions),
        *(Sweep(name, 3600.0, sweep) for name, sweep in retention.sweeps(pool, config).items()),
    ]
