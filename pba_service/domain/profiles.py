"""What kinds of link the simulator knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """A kind of link. Each link of a kind draws its own scale around these by its seed.

    Attributes:
        name: What the command line calls it.
        capacity_mbps: Bandwidth of the idle link.
        propagation_ms: Round-trip time of the idle link.
        base_loss_ratio: Loss that load does not cause.
        base_jitter_ms: Jitter that load does not cause.
        utilisation: Mean share of the capacity that others use.
        daily_swing: How far the daily cycle moves the utilisation up and down.
        weekend_share: Share of the daily cycle that is left on Saturday and Sunday.
        load_sigma: Standard deviation of the utilisation's own wandering.
        load_tau_min: Correlation time of that wandering.
        fading_sigma: Log standard deviation of the capacity's wandering (radio).
        fading_tau_min: Correlation time of fading, and of the base loss's wandering.
        loss_sigma: Log standard deviation of the base loss's wandering.
        queue_ms: Delay that queues add at half load, and more than proportionally above it.
        regimes_per_day: Level shifts: other routes, other shapers.
        regime_bandwidth_sigma: Log standard deviation of the capacity between regimes.
        regime_latency_sigma: Log standard deviation of the propagation delay between regimes.
        episodes_per_day: Congestion episodes: bandwidth down; latency, loss and jitter up, all together.
        episode_mean_min: Their mean length.
        episode_load: Mean utilisation that an episode adds.
        outages_per_day: Times of nothing at all.
        outage_mean_min: Their mean length.
        noise_sigma: Log scale of the measurement's own noise, heavy-tailed.
        spike_ratio: Share of the samples whose latency is several times too high.
        missing_ratio: Share of the samples that never come.
        absent_ratio: Share of the single values that a sample lacks.
        cadence_jitter_ratio: How far samples come off the beat, as a share of the cadence.
    """

    name: str
    capacity_mbps: float
    propagation_ms: float
    base_loss_ratio: float
    base_jitter_ms: float
    utilisation: float = 0.35
    daily_swing: float = 0.15
    weekend_share: float = 0.6
    load_sigma: float = 0.06
    load_tau_min: float = 45.0
    fading_sigma: float = 0.0
    fading_tau_min: float = 20.0
    loss_sigma: float = 0.8
    queue_ms: float = 2.0
    regimes_per_day: float = 0.5
    regime_bandwidth_sigma: float = 0.15
    regime_latency_sigma: float = 0.08
    episodes_per_day: float = 2.0
    episode_mean_min: float = 40.0
    episode_load: float = 0.35
    outages_per_day: float = 0.05
    outage_mean_min: float = 6.0
    noise_sigma: float = 0.06
    spike_ratio: float = 0.005
    missing_ratio: float = 0.005
    absent_ratio: float = 0.002
    cadence_jitter_ratio: float = 0.03


PROFILES = {
    profile.name: profile
    for profile in (
        LinkProfile(
            name="wan",
            capacity_mbps=500.0,
            propagation_ms=38.0,
            base_loss_ratio=3e-4,
            base_jitter_ms=1.2,
            queue_ms=4.0,
        ),
        LinkProfile(
            name="metro",
            capacity_mbps=5_000.0,
            propagation_ms=4.0,
            base_loss_ratio=1e-5,
            base_jitter_ms=0.15,
            queue_ms=0.4,
            load_sigma=0.04,
            episodes_per_day=1.0,
            noise_sigma=0.04,
        ),
        LinkProfile(
            name="transcontinental",
            capacity_mbps=1_000.0,
            propagation_ms=165.0,
            base_loss_ratio=8e-4,
            base_jitter_ms=2.5,
            queue_ms=9.0,
            regimes_per_day=1.5,
            regime_latency_sigma=0.12,
            episodes_per_day=3.0,
        ),
        LinkProfile(
            name="satellite",
            capacity_mbps=60.0,
            propagation_ms=560.0,
            base_loss_ratio=4e-3,
            base_jitter_ms=14.0,
            queue_ms=25.0,
            daily_swing=0.22,
            fading_sigma=0.18,
            fading_tau_min=60.0,
            outages_per_day=0.5,
            noise_sigma=0.06,
            missing_ratio=0.02,
        ),
        LinkProfile(
            name="wireless",
            capacity_mbps=120.0,
            propagation_ms=22.0,
            base_loss_ratio=1.2e-2,
            base_jitter_ms=6.0,
            queue_ms=10.0,
            load_tau_min=20.0,
            fading_sigma=0.35,
            fading_tau_min=12.0,
            loss_sigma=1.1,
            episodes_per_day=5.0,
            episode_mean_min=20.0,
            outages_per_day=0.8,
            outage_mean_min=3.0,
            noise_sigma=0.12,
            spike_ratio=0.02,
            missing_ratio=0.04,
            absent_ratio=0.01,
            cadence_jitter_ratio=0.15,
        ),
        LinkProfile(
            name="daily",
            capacity_mbps=1_000.0,
            propagation_ms=18.0,
            base_loss_ratio=2e-4,
            base_jitter_ms=0.8,
            utilisation=0.45,
            daily_swing=0.38,
            queue_ms=6.0,
            load_sigma=0.02,
            regimes_per_day=0.1,
            episodes_per_day=0.3,
            outages_per_day=0.02,
            noise_sigma=0.02,
        ),
    )
}
"""By name: wan, metro, transcontinental, satellite, wireless (lossy), daily (a strong daily cycle, little else)."""
