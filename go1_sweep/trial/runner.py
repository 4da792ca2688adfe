"""rsl_rl's runner as a trial uses it, whatever its version.

rsl_rl 3 (Isaac Lab 2.3) keeps actor and critic in one module, and the runner itself writes the log. rsl_rl 5
(mjlab, Isaac Lab 3) has a module of each, and a logger.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import nn
from torch.distributions import Normal, kl_divergence

from go1_sweep.protocol import Progress
from go1_sweep.simulators.base import Actor
from go1_sweep.trial.checkpoints import PolicyError
from go1_sweep.trial.progress import ScalarWriter

KL_SAMPLES = 4096

AroundLog = Callable[[Callable[[], None]], None]
"""Called after each update with what logs it; may raise to end the training."""


class Runner(ABC):
    """A runner that a simulator made.

    Attributes:
        rsl_rl: the runner itself.
    """

    def __init__(self, runner: OnPolicyRunner) -> None:
        self.rsl_rl = runner
        self._alg: Any = runner.alg

    @property
    @abstractmethod
    def actor(self) -> Actor:
        """The policy that is trained."""

    @property
    def cut_iterations(self) -> int:
        """Of ``learn``: at the end of so many an env may still be in the episode that it began in the middle."""
        return (int(self.rsl_rl.env.max_episode_length) - 1) // self.rsl_rl.cfg["num_steps_per_env"]

    def learn(self, iterations: int, writer: ScalarWriter, around_log: AroundLog) -> None:
        """Train for so many iterations more; rsl_rl saves nothing: it would write in place, and we publish instead."""
        self.rsl_rl.save = lambda *args, **kwargs: None
        self._log_to(writer, around_log)
        self.rsl_rl.learn(iterations, init_at_random_ep_len=True)

    def load(self, content: dict[str, Any], progress: Progress) -> None:
        """Go on from a checkpoint; a fixed learning rate is the configuration's, an adaptive one the checkpoint's.

        Args:
            content: of the checkpoint, as ``read_checkpoint`` gives it.
            progress: that it was taken at.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: it is of another network.
        """
        configured = self._alg.learning_rate
        self._load(content)
        if self._alg.schedule == "fixed":
            for group in self._alg.optimizer.param_groups:
                group["lr"] = configured
        self._alg.learning_rate = self._alg.optimizer.param_groups[0]["lr"]
        self.rsl_rl.current_learning_iteration = progress.iterations
        counters = self._counters
        counters.tot_timesteps, counters.tot_time = progress.env_steps, progress.train_seconds

    def kl(self) -> float | None:
        """Mean KL divergence of the policy after the update from the one that collected.

        Taken on at most ``KL_SAMPLES`` samples, evenly spread over the rollout, without drawing a random
        number. ``None`` for recurrent policies, whose rollout cannot be replayed sample by sample.
        """
        observations = self._alg.storage.observations.flatten(0, 1)
        stride = -(-observations.batch_size[0] // KL_SAMPLES)
        with torch.inference_mode():
            divergence = self._kl(observations[::stride], lambda rollout: rollout.flatten(0, 1)[::stride])
        return None if divergence is None else divergence.mean().item()

    @property
    @abstractmethod
    def _counters(self) -> Any:
        """What has ``tot_timesteps`` and ``tot_time``."""

    @abstractmethod
    def _log_to(self, writer: ScalarWriter, around_log: AroundLog) -> None: ...

    @abstractmethod
    def _load(self, content: dict[str, Any]) -> None: ...

    @abstractmethod
    def _kl(self, observations: TensorDict, sampled: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor | None: ...


def runner_of(runner: OnPolicyRunner) -> Runner:
    """The runner by its version.

    Raises:
        PolicyError: a recurrent policy of rsl_rl 3.
    """
    return _Runner5(runner) if hasattr(runner, "logger") else _Runner3(runner)


def average(steps: list[dict[str, Any]]) -> None:
    """Put the mean of each term, on the host, in the place of what all steps told of it.

    rsl_rl takes the same mean; but it joins the steps one by one: on a GPU these hundreds of operations on a few
    numbers each are most of the time between two iterations.

    Args:
        steps: the terms that an env logged, by step: numbers, or tensors of shape () or (n,). Changed in place.
    """
    terms: dict[str, list[Any]] = {}
    for step in steps:
        for name, value in step.items():
            terms.setdefault(name, []).append(value)
    on: dict[torch.device | None, dict[str, torch.Tensor]] = {}
    for name, values in terms.items():
        device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
        on.setdefault(device, {})[name] = torch.hstack([torch.as_tensor(value, device=device) for value in values])
    means = {}
    for each in on.values():
        numbers = torch.cat(list(each.values())).float().cpu()  # the only time that the GPU is waited for
        of_terms = numbers.split([len(values) for values in each.values()])
        means |= {name: of_term.mean() for name, of_term in zip(each, of_terms, strict=True)}
    steps[:] = [means]


class _Runner5(Runner):
    """rsl_rl 5."""

    @property
    def actor(self) -> Actor:
        return self._alg.get_policy()

    @property
    def _counters(self) -> Any:
        return self.rsl_rl.logger

    def _log_to(self, writer: ScalarWriter, around_log: AroundLog) -> None:
        logger: Any = self.rsl_rl.logger
        log = logger.log

        def use_writer() -> None:  # and keep no diffs of repositories: the sweep records the commit once
            logger.writer, logger.logger_type = writer, "tensorboard"
            logger.device = "cpu"  # where the averages are

        def log_averaged(*args: Any, **kwargs: Any) -> None:
            average(logger.ep_extras)
            log(*args, **kwargs)

        logger.init_logging_writer = use_writer
        logger.log = lambda *args, **kwargs: around_log(lambda: log_averaged(*args, **kwargs))

    def _load(self, content: dict[str, Any]) -> None:
        file = io.BytesIO()  # a runner may load more than rsl_rl's own, and gives torch what it is given
        torch.save(content, file)
        file.seek(0)
        self.rsl_rl.load(cast(Any, file), map_location=str(self.rsl_rl.device))

    def _kl(self, observations: TensorDict, sampled: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor | None:
        actor, collected = self._alg.get_policy(), self._alg.storage.distribution_params
        if actor.is_recurrent or actor.distribution is None or collected is None:
            return None
        actor.distribution.update(actor.mlp(actor.get_latent(observations)))
        old = tuple(sampled(parameter) for parameter in collected)
        return actor.get_kl_divergence(old, actor.output_distribution_params)


class _Runner3(Runner):
    """rsl_rl 3."""

    def __init__(self, runner: OnPolicyRunner) -> None:
        super().__init__(runner)
        if self._alg.policy.is_recurrent:
            raise PolicyError("recurrent policies are supported from rsl_rl 5 on")
        cast(Any, runner).logger_type = "tensorboard"  # set where its writer is made, and read where it saves

    @property
    def actor(self) -> Actor:
        policy = self._alg.policy
        actor = _Network(policy.obs_groups["policy"], policy.actor_obs_normalizer, policy.actor)
        spread = "std" if policy.noise_std_type == "scalar" else "log_std"
        actor.distribution = nn.ParameterDict({f"{spread}_param": getattr(policy, spread)})
        return actor

    @property
    def _counters(self) -> Any:
        return self.rsl_rl

    def _log_to(self, writer: ScalarWriter, around_log: AroundLog) -> None:
        runner: Any = self.rsl_rl
        log = runner.log
        runner.writer = writer
        runner.git_status_repos.clear()

        def log_averaged(found: dict[str, Any]) -> None:
            average(found["ep_infos"])
            log(found)

        runner.log = lambda found: around_log(lambda: log_averaged(found))

    def _load(self, content: dict[str, Any]) -> None:
        policy = self._alg.policy
        critic = _Network(policy.obs_groups["critic"], policy.critic_obs_normalizer, policy.critic)
        cast(Any, self.actor).load_state_dict(content["actor_state_dict"])
        critic.load_state_dict(content["critic_state_dict"])
        self._alg.optimizer.load_state_dict(content["optimizer_state_dict"])

    def _kl(self, observations: TensorDict, sampled: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor | None:
        policy, storage = self._alg.policy, self._alg.storage
        policy.update_distribution(policy.actor_obs_normalizer(policy.get_actor_obs(observations)))
        old = Normal(sampled(storage.mu), sampled(storage.sigma))
        return kl_divergence(old, policy.distribution).sum(dim=-1)


class _Network(nn.Module):
    """rsl_rl 3's actor or critic, under the names and with the methods of rsl_rl 5's ``MLPModel``."""

    is_recurrent = False

    def __init__(self, obs_groups: list[str], obs_normalizer: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.obs_groups = obs_groups
        self.obs_normalizer = obs_normalizer
        self.mlp = mlp

    def forward(self, observations: TensorDict) -> torch.Tensor:
        joined = torch.cat([observations[group] for group in self.obs_groups], dim=-1)
        return self.mlp(self.obs_normalizer(joined))

    def reset(self, dones: torch.Tensor | None = None) -> None:
        """Nothing is remembered from step to step."""

    def as_jit(self) -> nn.Module:
        return nn.Sequential(self.obs_normalizer, self.mlp)
