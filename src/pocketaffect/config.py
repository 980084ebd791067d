"""params.yaml as typed settings: one model per stage, unknown keys refused, all problems in one message."""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from pocketaffect.designs import HUB, known_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.precisions import Target, known_precision

# The catalogues of precisions and networks are the home of the names they allow, and import nothing heavy.
PARAMS_FILE: Final = Path("params.yaml")

_UNPROVEN: Final = "left in 0.2.0, since no network passed its verification in it"
REMOVED: Final = {
    "export.compact": "left in 0.2.0: programs are as coremltools writes them, 8 to 100 kB longer; delete the line",
    "export.finetune: qat": f"{_UNPROVEN}; set export.finetune: none and export.precision: int8",
    "export.precision: int8-activations": f"{_UNPROVEN}; choose int8",
    "export.precision: int4-block": f"{_UNPROVEN}; choose palette4-grouped",
    **{
        f"export.precision: pruned{share}-palette{bits}": f"{_UNPROVEN}; choose palette2, or a smaller model.width"
        for share in (50, 75)
        for bits in (6, 4)
    },
}
"""Settings of older versions that are gone. A key is passed over with its advice, a value is refused with it."""

logger = logging.getLogger(__name__)

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What a network is by, in params.yaml and in a model.json alike (`models.network.NetworkSpec`).
Architecture = Annotated[str, Strict(), AfterValidator(known_design)]
Width = Annotated[float, Strict(), Field(ge=0.05, le=4)]
Head = Literal["prototype", "plain"]
Dropout = Annotated[float, Strict(), Field(ge=0, le=1.5)]
PathText = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
ExecutorName = Literal["local", "ray"]


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversions ("24" is not 24).

    No key may be called `size` or `nfiles`: DVC's run cache leaves these out of its hash wherever they stand, and
    answers a changed value with the outputs of the old one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SampleParams(Section):
    """The generated sample of drawn faces."""

    seed: Seed
    train_images: Annotated[int, Field(ge=64)]
    validation_images: Annotated[int, Field(ge=64)]


class ValidateParams(Section):
    """The data contract's limits."""

    max_quarantine_fraction: Fraction
    min_validation_per_class: Annotated[int, Field(ge=0)]
    near_duplicate_distance: Annotated[int, Field(ge=-1, le=32)]
    profile: Annotated[str, Field(min_length=1)]
    max_drift: NotNegative
    choosing_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class PreprocessParams(Section):
    """Faces to uint8 shards."""

    image_size: Annotated[int, Field(ge=32, le=512, multiple_of=16)]
    margin: Annotated[float, Field(ge=0, le=1)]
    align: Literal["none", "eyes"]
    workers: Annotated[int, Field(ge=1, le=256)]
    executor: ExecutorName
    shard_images: Count
    memory_mb: Annotated[int, Field(ge=64)]
    colour: Literal["auto", "rgb", "grey"] = "auto"


class ModelParams(Section):
    """The network, apart from its input size (`preprocess.image_size`)."""

    architecture: Architecture
    width: Width
    full_resolution_stem: bool
    head: Head
    dropout: Dropout
    pretrained: PathText | None


class AugmentParams(Section):
    """Random geometry of a training face, and changes of its looks."""

    rotation_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, le=0.5)]
    flip: Fraction
    brightness: Fraction
    contrast: Fraction
    cutout: Fraction
    mixup: Annotated[float, Field(ge=0, le=10)]
    zoom: Fraction = 0.0
    aspect: Fraction = 0.0
    blur: Annotated[float, Field(ge=0, le=4)] = 0.0
    sharpen: Annotated[float, Field(ge=0, le=4)] = 0.0
    tint: Fraction = 0.0
    jpeg: Fraction = 0.0


class DistillParams(Section):
    """A larger network to learn from."""

    teacher: PathText | None
    temperature: Positive
    weight: Fraction


class TrainParams(Section):
    """Optimisation and its determinism."""

    seed: Seed
    threads: Annotated[int, Field(ge=1, le=256)]
    instructions: Literal["avx2", "native"]
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: Annotated[int, Field(ge=1, le=1024)]
    nodes: Annotated[int, Field(ge=1, le=1024)]
    executor: ExecutorName
    precision: Literal["fp32", "bf16"]
    epochs: Count
    patience: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: Count
    optimizer: Literal["adam", "adamw"]
    learning_rate: Positive
    weight_decay: NotNegative
    schedule: Literal["cosine", "constant"]
    warmup_epochs: NotNegative
    clip_norm: NotNegative
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    start_from: PathText | None
    select: Literal["score", "accuracy", "loss"]
    class_weights: Literal["none", "balanced", "effective"]
    logit_adjustment: NotNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    soft_labels: bool
    va_loss: Literal["mse", "ccc", "mix"]
    task_weights: Literal["fixed", "learned"]
    expression_weight: NotNegative
    va_weight: NotNegative
    distill: DistillParams
    augment: AugmentParams


class EvaluateParams(Section):
    """Prediction over the validation split, and what is asked of it."""

    batch_size: Count
    resamples: Annotated[int, Field(ge=100)]
    behaviour_images: Count


class ExportParams(Section):
    """The Core ML file and the limits of its verification."""

    author: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    precision: Annotated[str, AfterValidator(known_precision)]
    deployment_target: Target
    finetune: Literal["none", "dkm"]
    finetune_steps: Count
    finetune_learning_rate: Positive
    calibrate: bool = True
    budget_bytes: Count
    max_mean_probability_difference: Positive
    min_agreement: Fraction
    max_accuracy_drop: Fraction
    max_rmse_rise: NotNegative


class RegisterParams(Section):
    """Where MLflow keeps the run and the version."""

    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]+$", min_length=1, max_length=200)]
    experiment: Annotated[str, Field(min_length=1, max_length=250)]
    allow_dirty: bool


class PromotionChecks(Section):
    """What a version must hold to become champion. A check that is left out, null or false is not made."""

    max_bytes: Count | None = None
    min_balanced_accuracy: Fraction | None = None
    min_worst_class_recall: Fraction | None = None
    min_ccc_valence: Fraction | None = None
    min_ccc_arousal: Fraction | None = None
    max_ece: Fraction | None = None
    max_class_changes: Fraction | None = None
    max_drop_balanced_accuracy: Fraction | None = None
    max_drop_worst_class_recall: Fraction | None = None
    max_drop_ccc_valence: Fraction | None = None
    max_drop_ccc_arousal: Fraction | None = None
    verification_passed: bool = False
    contract_passed: bool = False
    lineage_complete: bool = False
    audit_passed: bool = False


class PromotionParams(Section):
    """The policy of `pocketaffect promote`, and the draws of its intervals."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Seed
    checks: PromotionChecks


class AuditParams(Section):
    """Tolerances for an audit on other hardware, where float sums round differently."""

    metric_tolerance: Fraction
    bytes_tolerance: Fraction


class SweepParams(Section):
    """What `pocketaffect sweep` searches, and with what. `sweep.space` reads the space itself."""

    budget_bytes: Count
    budget_macs: Count | None = None
    objectives: Literal["score", "score-and-bytes"]
    trials: Count
    faces: Annotated[int, Field(ge=2)] | None = None
    epochs: Count
    sampler: Literal["tpe", "gp", "nsga2", "random"]
    pruner: Literal["hyperband", "asha", "none"]
    warm_start: bool
    seed: Seed
    workers: Annotated[int, Field(ge=1, le=1024)]
    executor: ExecutorName
    storage: Annotated[str, Field(min_length=1)]
    space: Annotated[
        dict[str, list[bool | int | float | str] | dict[Literal["low", "high", "log", "step"], bool | int | float]],
        Field(min_length=1),
    ]


class Params(Section):
    """All of params.yaml."""

    sample: SampleParams
    validate_: Annotated[ValidateParams, Field(alias="validate")]  # BaseModel owns the plain name
    preprocess: PreprocessParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    register_: Annotated[RegisterParams, Field(alias="register")]  # ABCMeta owns the plain name
    promotion: PromotionParams
    audit: AuditParams
    sweep: SweepParams


def load_params(path: Path = PARAMS_FILE, *, advise: bool = True) -> Params:
    """Reads and checks params.yaml; it may warn of each key that older versions knew (`find_removed`).

    Raises:
        PocketAffectError: The file is missing, is not YAML, or has problems, all of which are named.
    """
    if not path.is_file():
        raise PocketAffectError(f"{path}: no such file", todo="run from the repository's root")
    raw = read_yaml(path)
    for key, advice in find_removed(raw).items():
        section, name = key.split(".")
        del raw[section][name]
        if advise:
            logger.warning("%s: %s: %s", path, key, advice)
    try:
        params = Params.model_validate(raw)
        problems = find_contradictions(params.model, params.train)
    except ValidationError as error:
        problems = describe_problems(error)
    if problems:
        raise refuse_problems(problems, path)
    return params


def find_defaults(section: Section, prefix: str = "") -> dict[str, object]:
    """Finds the settings that a file of an older version does not set: dotted name, and the default that holds.

    A check of the promotion policy that is left out is not made: that is no default.
    """
    found: dict[str, object] = {}
    for name, field in type(section).model_fields.items():
        key, value = f"{prefix}{field.alias or name}", getattr(section, name)
        if name not in section.model_fields_set:
            found[key] = value
        elif isinstance(value, Section) and not isinstance(value, PromotionChecks):
            found |= find_defaults(value, f"{key}.")
    return found


def find_removed(raw: dict[str, Any]) -> dict[str, str]:
    """Finds the keys of an older version in a file of settings: dotted name and what to do, from `REMOVED`."""
    sections = {section: content for section, content in raw.items() if isinstance(content, dict)}
    present = {f"{section}.{key}" for section, content in sections.items() for key in content}
    return {key: advice for key, advice in REMOVED.items() if key in present}


def refuse_problems(problems: Sequence[str], path: Path = PARAMS_FILE) -> PocketAffectError:
    """Makes the error that lists the problems of a settings file."""
    return PocketAffectError("\n  - ".join([f"{path}: {len(problems)} problem(s)", *problems]))


def find_contradictions(model: ModelParams, train: TrainParams, device: str | None = None) -> list[str]:
    """Lists the settings that do not go together, a line each: what was found, what to do.

    A search space may hold such pairs, so sections do not refuse them; a file of settings and a training do. `device`
    is what `train.accelerator` stands for here; None: nobody has looked, and `auto` may be a GPU.
    """
    device = device or train.accelerator
    problems = []
    if not train.expression_weight and not train.va_weight:
        problems.append("train.expression_weight and train.va_weight are both 0; give one of them a weight")
    elif train.task_weights == "learned" and not (train.expression_weight and train.va_weight):
        problems.append(
            "train.task_weights: learned begins at train.expression_weight and train.va_weight, both above 0; "
            f"found {train.expression_weight:g} and {train.va_weight:g}; set train.task_weights: fixed for one task"
        )
    if train.select == "accuracy" and not train.expression_weight:
        problems.append(
            "train.select: accuracy, of a network that learns no expression (train.expression_weight: 0); "
            "set train.select: loss"
        )
    if train.logit_adjustment and train.class_weights == "balanced":
        problems.append(
            f"train.logit_adjustment: {train.logit_adjustment:g} and train.class_weights: balanced undo the classes' "
            "frequencies twice; set train.class_weights: none, or train.logit_adjustment: 0.0"
        )
    if model.pretrained is not None and train.start_from is not None:
        problems.append("model.pretrained and train.start_from both give the first weights; set one of them to null")
    if train.precision == "bf16" and train.instructions == "avx2" and device == "cpu":
        problems.append(
            f"train.precision: bf16 on the CPU (train.accelerator: {train.accelerator}) needs instructions that "
            "train.instructions: avx2 does not have; set train.instructions: native (results then depend on the "
            "processor), or train.precision: fp32"
        )
    return problems


def list_networks(params: Params, *, searched: bool = False) -> list[tuple[str, str]]:
    """Lists setting and path of each network that a training reads beside its shards.

    Where they are `searched`, what `sweep.space` has for these settings counts too.
    """
    networks = []
    for key, path in (
        ("train.start_from", params.train.start_from),
        ("train.distill.teacher", params.train.distill.teacher),
        ("model.pretrained", params.model.pretrained),
    ):
        values = params.sweep.space.get(key, []) if searched else []
        choices = values if isinstance(values, list) else []
        places = [(key, path), *((f"sweep.space.{key}", choice) for choice in choices)]
        networks += [(place, one) for place, one in places if isinstance(one, str)]
    return [(place, one) for place, one in networks if not (place.endswith("model.pretrained") and one == HUB)]


def describe_problems(error: ValidationError) -> list[str]:
    """Writes a line for each problem with settings: dotted key, what is wrong, what was found, what to do."""
    return [_describe(dict(problem)) for problem in error.errors()]


def _describe(problem: dict[str, Any]) -> str:
    """Writes the line for one pydantic problem."""
    location: Sequence[str | int] = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{key}: missing; add it (src/pocketaffect/config.py says what it may be)"
    message = (
        "needs keys of its own"
        if problem["type"] == "model_type"
        else str(problem["msg"]).removeprefix("Value error, ")
    )
    gone = REMOVED.get(f"{key}: {problem['input']}")
    told = f"{message[:1].lower()}{message[1:]}" if gone is None else gone
    return f"{key}: {told}; found {repr(problem['input'])[:80]}"


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """Lists the keys that params.yaml may have below `location`."""
    section: Any = Params
    for part in location:
        fields = {field.alias or name: field.annotation for name, field in section.model_fields.items()}
        section = fields[str(part)]
    return [field.alias or name for name, field in section.model_fields.items()]
