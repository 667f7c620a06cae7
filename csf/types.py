"""Data types and protocols that modules share.

Axis letters used in every shape comment: **N** environments or episodes, **T** steps, **B** batch, **O** observation,
**A** action, **Z** skill, **E** critic heads, **K** candidate skills, **C** coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Metrics = dict[str, Tensor]  # name -> 0-d tensor on the agent's device; copied to the host once per epoch

# An observation is a vector [O] float32, an image [H, W, C] uint8, or both as {"image", "vector"}. Shape comments
# write [N, *O] for all three; in a dict, every entry has the leading axes.
Obs = Tensor | dict[str, Tensor]
ObsArray = np.ndarray | dict[str, np.ndarray]
SomeObs: TypeAlias = Any  # an observation whose kind is known only at run time

T = TypeVar("T")


def map_obs(function: Callable[..., Any], *observations: Any) -> SomeObs:
    """Apply a function to the tensors or arrays of observations.

    Dicts are mapped entry by entry. Several observations must be of the same kind; `function` receives the same entry
    of each of them.
    """
    first = observations[0]
    if isinstance(first, dict):
        return {name: function(*(each[name] for each in observations)) for name in first}
    return function(*observations)


def cat_obs(observations: Sequence[Obs]) -> Obs:
    """Concatenate observations of one kind along their first axis."""
    found: Obs = map_obs(lambda *parts: torch.cat(parts), *observations)
    return found


def obs_tensor(obs: ObsArray, device: torch.device | str) -> Obs:
    """Convert NumPy observations to tensors on a device; on the CPU they share memory."""
    found: Obs = map_obs(lambda array: torch.from_numpy(array).to(device), obs)
    return found


class Batch(NamedTuple):
    """Transitions on the agent's device; read-only."""

    obs: SomeObs  # [B, *O]
    action: Tensor  # [B, A] float32 in [-1, 1]
    next_obs: SomeObs  # [B, *O]
    reward: Tensor  # [B] the environment's reward; unused in pretraining
    terminal: Tensor  # [B] float32 in {0, 1}; 0 at a time limit unless task.terminal_at_limit=true
    skill: Tensor  # [B, Z]


class Rollout(NamedTuple):
    """Transitions collected by the current policy, with its log-probabilities and advantages at that time."""

    obs: SomeObs  # as in `Batch`
    action: Tensor
    next_obs: SomeObs
    reward: Tensor
    terminal: Tensor
    skill: Tensor
    log_prob: Tensor  # [B] log-density of the action
    advantage: Tensor  # [B] not normalized
    return_to_go: Tensor  # [B] discounted sum of rewards from this step to the end of the episode


class Generation(NamedTuple):
    """Fitness of a population of 2P policies; i and P + i are a mirrored pair, perturbed by noise[i] and -noise[i]."""

    noise: Tensor  # [P, D], D parameters of the policy
    fitness: Tensor  # [2P]
    valid: Tensor  # [P] bool, whether no episode of the pair was discarded


class Episodes(NamedTuple):
    """N episodes padded to T steps, on the host; step t of episode n is real iff t < length[n].

    An episode whose world diverged has length 0: it has no real steps, but keeps its row, so that rows match the
    requested skills.
    """

    obs: SomeObs  # [N, T + 1, *O]
    action: Tensor  # [N, T, A]
    reward: Tensor  # [N, T]
    terminal: Tensor  # [N, T]; 0 at a time limit unless task.terminal_at_limit=true
    skill: Tensor  # [N, Z]
    length: Tensor  # [N] int64, 0..T
    coord: Tensor  # [N, T + 1, C] float64, position of the body: (x, y) for Ant, x for HalfCheetah
    world_steps: Tensor | None = None  # [N] int64, environment steps; None: equal to `length`

    def steps(self) -> Tensor:
        """Mask of the real steps, [N, T] bool."""
        return torch.arange(self.reward.shape[1]) < self.length[:, None]

    def returns(self) -> Tensor:
        """Sum of rewards of every episode, [N] float64."""
        return (self.reward * self.steps()).sum(1).double()

    def env_steps(self) -> int:
        """Total number of environment steps; larger than the number of actions if each is held for several steps."""
        return int((self.length if self.world_steps is None else self.world_steps).sum())

    def visited(self) -> Tensor:
        """Coordinates of all visited states, the final one of each episode included, [sum(length + 1), C]."""
        rows = torch.arange(self.coord.shape[1]) <= self.length[:, None]
        return self.coord[rows & (self.length > 0)[:, None]]

    def before(self) -> Obs:
        """Observations before every real step, flattened: [sum(length), *O]."""
        found: Obs = map_obs(lambda rows: rows[:, :-1][self.steps()], self.obs)
        return found

    def transitions(self) -> Batch:
        """The real steps, flattened: [sum(length), ...]."""
        real = self.steps()
        skill = self.skill[:, None].expand(*real.shape, self.skill.shape[-1])
        after = map_obs(lambda rows: rows[:, 1:][real], self.obs)
        return Batch(self.before(), self.action[real], after, self.reward[real], self.terminal[real], skill[real])


@dataclass(frozen=True)
class EnvSpec:
    """Description of an environment for agents, samplers and evaluators; plain data, saved with every policy."""

    id: str
    version: str
    obs_shape: tuple[int, ...]  # (O,) of a vector, or (H, W, C) of an image, with or without an additional vector
    obs_dtype: str  # "float32" for a vector, "uint8" for an image
    action_dim: int
    discrete: bool  # one-hot actions
    max_steps: int
    coord_dim: int
    success_radii: tuple[float, ...]  # in units of the coordinates
    coverage_cell: float  # side length of a cell of state coverage, in units of the coordinates
    obs_mean: tuple[float, ...] | None  # fixed normalizer of vectors; observations are already normalized
    obs_std: tuple[float, ...] | None
    hold: int = 1  # environment steps per action, unless the episode ends earlier
    vector_dim: int = 0  # length of the vector in a dict observation; 0: observations are not dicts
    renderer: str | None = None  # of image observations; None: not known, or observations are vectors
    quality: str | None = None  # of image observations
    frames: int = 1  # images that an image observation stacks along its last axis, oldest first

    @property
    def has_image(self) -> bool:
        """Whether observations are images, alone or with a vector."""
        return self.obs_dtype == "uint8"

    @property
    def obs_dim(self) -> int:
        """Length of a vector observation.

        Raises:
            ValueError: observations are images; the number of their features is `out_dim` of the encoder.
        """
        if self.has_image:
            raise ValueError(f"observations of {self.id} are images {self.obs_shape}, which have no obs_dim")
        return self.obs_shape[0]

    def build_obs(self, make: Callable[[tuple[int, ...], str], T]) -> T | dict[str, T]:
        """Build an observation of this kind by calling `make(shape, dtype)` for each of its arrays."""
        if not self.vector_dim:
            return make(self.obs_shape, self.obs_dtype)
        return {"image": make(self.obs_shape, self.obs_dtype), "vector": make((self.vector_dim,), "float32")}

    def random_actions(
        self, count: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw uniform actions [count, A], in [-1, 1] or one-hot; without a generator, from PyTorch's global one."""
        if self.discrete:
            index = torch.randint(self.action_dim, (count,), generator=generator, device=device)
            return torch.nn.functional.one_hot(index, self.action_dim).float()
        return 2 * torch.rand(count, self.action_dim, generator=generator, device=device) - 1

    def other_images(self, worlds: Any) -> str:
        """Describe in which settings the images of worlds, or of their specification, differ from those described here.

        Returns:
            Text such as "env.renderer is gl, accepted: warp"; empty if nothing differs or a setting is not known.
        """
        pairs = ((name, getattr(worlds, name, None), getattr(self, name)) for name in ("renderer", "quality"))
        found = [f"env.{name} is {a}, accepted: {b}" for name, a, b in pairs if None not in (a, b) and a != b]
        return "; ".join(found)

    def obs_words(self) -> str:
        """The shapes of an observation as text for messages: "(29,)", or "(64, 64, 9) and (2,)"."""
        return f"{self.obs_shape} and ({self.vector_dim},)" if self.vector_dim else f"{self.obs_shape}"


class Evaluation(NamedTuple):
    """The result of an evaluator: numbers and images."""

    metrics: dict[str, float]  # keys "eval/...", and "phi/..." of the method's representation
    images: dict[str, np.ndarray]  # name -> [H, W, 3] uint8


class Worlds(Protocol):
    """A batch of N worlds: a Gymnasium `VectorEnv` without autoreset, with the additions of the package `envs`."""

    num_envs: int
    metadata: dict[str, Any]  # "render_fps", if the worlds can render
    single_observation_space: Any
    single_action_space: Any
    version: str
    max_steps: int
    coord_dim: int
    success_radii: tuple[float, ...]
    coverage_cell: float
    obs_mean: np.ndarray | None
    obs_std: np.ndarray | None

    @property
    def goal_names(self) -> tuple[str, ...]:
        """Names that `goal_at` accepts."""
        ...

    @property
    def has_goals(self) -> bool:
        """Whether `goals`, `goal_at` and `success` are available."""
        ...

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SomeObs, dict[str, Any]]:
        """Start an episode in every world; returns observations [N, *O] and infos with "coord" [N, C]."""
        ...

    def step(self, actions: np.ndarray) -> tuple[SomeObs, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every world once; infos contain "coord" [N, C] and "diverged" [N] bool."""
        ...

    def goals(self, n: int, rng: np.random.Generator) -> tuple[SomeObs, np.ndarray]:
        """Sample n goals; returns them as observations [n, *O] and as places [n, C]."""
        ...

    def goal_at(self, goal: Any) -> tuple[SomeObs, np.ndarray]:
        """The observation [*O] and the place [C] of a goal given by name or place; [n, ...] for places [n, C]."""
        ...

    def measure(self, coord: np.ndarray, length: np.ndarray) -> dict[str, float]:
        """Compute metrics over n episodes from coordinates [n, T + 1, C] and lengths [n], all above 0."""
        ...

    def success(self, coord: np.ndarray, length: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the success of each episode at its goal [n, C]; returns rows [n] by name, NaN if not applicable."""
        ...

    def render(self) -> Sequence[np.ndarray]:
        """Render an image [H, W, 3] uint8 of every world; requires render_mode="rgb_array"."""
        ...

    def close(self) -> None:
        """Close the worlds."""
        ...


class Policy(Protocol):
    """Maps observations and skills to actions.

    Parameters are positional-only: an implementation may take other data per episode, such as the index of a goal, in
    place of the skill.
    """

    def __call__(self, obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]."""
        ...


class Sampler(Protocol):
    """Collects complete episodes."""

    spec: EnvSpec

    def collect(
        self, policy: Policy, skills: Tensor, mode: bool = False, seed: int | None = None, twins: bool = False
    ) -> Episodes:
        """Collect one episode per row of `skills` [n, Z], any n; with `seed`, independently of the sampler's state.

        With `twins`, n is the number of worlds, and worlds i and n / 2 + i have the same seed.
        """
        ...

    def close(self) -> None:
        """Close the worlds; idempotent, and never raises, so that it cannot hide an earlier error."""
        ...


class Evaluator(Protocol):
    """Evaluates an agent without side effects on its training."""

    episodes: int

    def run(self, agent: Any, sampler: Sampler) -> Evaluation:
        """Evaluate; returns numbers, by the names in docs/metrics.md, and images."""
        ...


class Rewarder(Protocol):
    """The part of an objective that a backbone may use."""

    def reward(self, batch: Batch) -> Tensor:
        """Intrinsic reward [B]."""
        ...

    def cumulant(self, batch: Batch) -> Tensor:
        """Features [B, Z] whose inner product with the skill is the reward."""
        ...


class Stateful(Protocol):
    """A component whose state is saved in checkpoints."""

    def full_state(self) -> dict[str, Any]:
        """The state as tensors and plain data; restoring it resumes the component bit for bit."""
        ...

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        ...


@runtime_checkable
class Growing(Stateful, Protocol):
    """A component with a large state of numbered rows, of which a checkpoint saves only those added since the last.

    Its full state is its head state with the key "segments", which iterates over consecutive results of `take`.
    """

    capacity: int  # largest number of rows
    nbytes: int  # size of the full state at capacity
    total: int  # number of rows ever added

    def start(self) -> int:
        """Number of the first row that has to be saved."""
        ...

    def ends(self) -> list[int]:
        """Numbers at which a segment may end and the next one begin, ascending; the last is `total`."""
        ...

    def take(self, begin: int, end: int) -> dict[str, Any]:
        """Rows from number `begin` to before `end`, as tensors and plain data."""
        ...

    def head_state(self) -> dict[str, Any]:
        """The state without the rows."""
        ...
