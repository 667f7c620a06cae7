"""Data and protocols that cross module borders.

Axis letters used in every shape comment: **N** environments or episodes, **T** steps, **B** batch, **O** observation,
**A** action, **Z** skill, **E** critic heads, **K** candidate skills, **C** coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

Metrics = dict[str, Tensor]  # name -> 0-d tensor on the agent's device; read on the host once per epoch

# An observation is a vector [O] float32, an image [H, W, C] uint8, or both as {"image", "vector"}. Shape comments
# write [N, *O] for all three: of a dict, every entry has the leading axes.
Obs = Tensor | dict[str, Tensor]
ObsArray = np.ndarray | dict[str, np.ndarray]
SomeObs: TypeAlias = Any  # an observation that is read from somewhere; which kind it is, is known at run time alone

T = TypeVar("T")


def map_obs(function: Callable[..., Any], *observations: Any) -> SomeObs:
    """Apply a function to observations: to the tensors or arrays themselves, or to those of every dict entry.

    Several observations are of one kind; `function` takes the same entry of each of them.
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
    """NumPy observations as tensors on a device; on the CPU they share memory."""
    found: Obs = map_obs(lambda array: torch.from_numpy(array).to(device), obs)
    return found


class Batch(NamedTuple):
    """Transitions on the agent's device; never written to."""

    obs: SomeObs  # [B, *O]
    action: Tensor  # [B, A] float32 in [-1, 1]
    next_obs: SomeObs  # [B, *O]
    reward: Tensor  # [B] the task's reward; unused while pretraining
    terminal: Tensor  # [B] float32 in {0, 1}; 0 at a time limit unless the task says otherwise
    skill: Tensor  # [B, Z]


class Rollout(NamedTuple):
    """Transitions of the policy that is about to be improved, with what it made of them when they were collected."""

    obs: SomeObs  # as in `Batch`
    action: Tensor
    next_obs: SomeObs
    reward: Tensor
    terminal: Tensor
    skill: Tensor
    log_prob: Tensor  # [B] log-density of the action
    advantage: Tensor  # [B] not normalized
    return_to_go: Tensor  # [B] discounted sum of the episode's rewards from this step on


class Episodes(NamedTuple):
    """N episodes padded to T steps, on the host; step t of episode n is real iff t < length[n].

    An episode whose world diverged keeps its row, with length 0: it has no real step, and rows still match the
    skills that were asked for.
    """

    obs: SomeObs  # [N, T + 1, *O]
    action: Tensor  # [N, T, A]
    reward: Tensor  # [N, T]
    terminal: Tensor  # [N, T]; 0 at a time limit unless the task says otherwise
    skill: Tensor  # [N, Z]
    length: Tensor  # [N] int64, 0..T
    coord: Tensor  # [N, T + 1, C] float64, where the body is: the plane for Ant, the line for HalfCheetah
    world_steps: Tensor | None = None  # [N] int64, steps of the world; None: as many as `length`

    def steps(self) -> Tensor:
        """Which steps are real, [N, T] bool."""
        return torch.arange(self.reward.shape[1]) < self.length[:, None]

    def env_steps(self) -> int:
        """Steps of the world that all of the episodes took; more than their steps where an action lasts several."""
        return int((self.length if self.world_steps is None else self.world_steps).sum())

    def visited(self) -> Tensor:
        """Coordinates before every real step and after the last one of each episode, [sum(length + 1), C]."""
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
    """All that an agent, a sampler and an evaluator may know of an environment; plain data, saved with every policy."""

    id: str
    version: str
    obs_shape: tuple[int, ...]  # of a vector (O,) or of an image (H, W, C), also if a vector stands beside the image
    obs_dtype: str  # "float32" for a vector, "uint8" for an image
    action_dim: int
    discrete: bool  # one-hot actions
    max_steps: int
    coord_dim: int
    success_radii: tuple[float, ...]  # in units of the coordinates
    coverage_cell: float  # side of a cell of state coverage, in units of the coordinates
    obs_mean: tuple[float, ...] | None  # of the vector's fixed normalizer, already applied to what the agent sees
    obs_std: tuple[float, ...] | None
    hold: int = 1  # steps of the world that an action lasts, if the episode does; budgets are counted in them
    vector_dim: int = 0  # length of the vector beside an image; 0: there is none, or no image

    @property
    def has_image(self) -> bool:
        """Whether observations are images, alone or with a vector."""
        return self.obs_dtype == "uint8"

    @property
    def obs_dim(self) -> int:
        """Length of a vector observation.

        Raises:
            ValueError: observations are images, for which an encoder says how many features they become.
        """
        if self.has_image:
            raise ValueError(f"observations of {self.id} are images {self.obs_shape}, which have no obs_dim")
        return self.obs_shape[0]

    def build_obs(self, make: Callable[[tuple[int, ...], str], T]) -> T | dict[str, T]:
        """An observation of this kind, each of its arrays made by `make(shape, dtype)`."""
        if not self.vector_dim:
            return make(self.obs_shape, self.obs_dtype)
        return {"image": make(self.obs_shape, self.obs_dtype), "vector": make((self.vector_dim,), "float32")}

    def obs_words(self) -> str:
        """The shapes of an observation, for messages: "(29,)", or "(64, 64, 9) and (2,)"."""
        return f"{self.obs_shape} and ({self.vector_dim},)" if self.vector_dim else f"{self.obs_shape}"


class Evaluation(NamedTuple):
    """What an evaluator found: numbers, and pictures worth looking at."""

    metrics: dict[str, float]  # keys "eval/..."
    images: dict[str, np.ndarray]  # name -> [H, W, 3] uint8


class Worlds(Protocol):
    """A batch of N worlds: a Gymnasium `VectorEnv` without autoreset, with what the package envs adds to it."""

    num_envs: int
    metadata: dict[str, Any]  # "render_fps", where there are pictures
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
        """The names that `goal_at` accepts."""
        ...

    @property
    def has_goals(self) -> bool:
        """Whether `goals`, `goal_at` and `success` may be called."""
        ...

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SomeObs, dict[str, Any]]:
        """Start an episode in every world; observations [N, *O], infos with "coord" [N, C]."""
        ...

    def step(self, actions: np.ndarray) -> tuple[SomeObs, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every world; infos with "coord" [N, C] and "diverged" [N] bool."""
        ...

    def goals(self, n: int, rng: np.random.Generator) -> tuple[SomeObs, np.ndarray]:
        """Goals as observations [n, *O] and as places [n, C]."""
        ...

    def goal_at(self, goal: Any) -> tuple[SomeObs, np.ndarray]:
        """The observation [*O] and the place [C] of a goal given by name or place; [n, ...] for places [n, C]."""
        ...

    def measure(self, coord: np.ndarray, length: np.ndarray) -> dict[str, float]:
        """What episodes with coordinates [n, T + 1, C] and lengths [n], all above 0, achieved together."""
        ...

    def success(self, coord: np.ndarray, length: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        """What each episode achieved of its goal [n, C]: rows [n] by name, NaN where a name is not about the goal."""
        ...

    def render(self) -> Sequence[np.ndarray]:
        """A picture [H, W, 3] uint8 of every world, if the worlds were made with render_mode="rgb_array"."""
        ...

    def close(self) -> None:
        """Release the worlds."""
        ...


class Policy(Protocol):
    """Chooses actions; positional-only, so that the number of a goal may stand in the skill's place."""

    def __call__(self, obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]."""
        ...


class Sampler(Protocol):
    """Runs whole episodes."""

    spec: EnvSpec

    def collect(self, policy: Policy, skills: Tensor, mode: bool = False, seed: int | None = None) -> Episodes:
        """One episode per row of `skills` [n, Z], any n; `seed` makes it independent of the sampler's own state."""
        ...

    def close(self) -> None:
        """Release the worlds; idempotent, and never raises, so it cannot hide the first error."""
        ...


class Evaluator(Protocol):
    """Measures an agent and leaves no trace in its training."""

    episodes: int

    def run(self, agent: Any, sampler: Sampler) -> Evaluation:
        """Numbers with keys "eval/...", and pictures."""
        ...


class Rewarder(Protocol):
    """What a backbone may ask of an objective."""

    def reward(self, batch: Batch) -> Tensor:
        """Intrinsic reward [B]."""
        ...

    def cumulant(self, batch: Batch) -> Tensor:
        """Features [B, Z] whose inner product with the skill is the reward."""
        ...


class Stateful(Protocol):
    """A part of a run that a checkpoint holds."""

    def full_state(self) -> dict[str, Any]:
        """Tensors and plain data; loading it back makes the part go on bit for bit."""
        ...

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned."""
        ...
