"""What is measured, and on what: the options that all measurements share."""

from dataclasses import dataclass, field

from attribution.errors import InputError

# what to measure -> the module of this package that does it
MEASUREMENTS = (
    "factors",
    "exemplars",
    "counterfactual",
    "removed",
    "lds",
    "captions",
    "calibration",
    "identity",
    "drawn",
    "listed",
    "regions",
    "domains",
    "own",
    "unlearning",
    "world",
    "unnamed",
    "artists",
    "adapters",
)
BY_LIST = ("listed", "unlearning")  # which ask for first training images alone
EXACT = "exact"
UNREAD = {  # option -> measurements that would silently do without it
    "queries": ("lds", "captions", "domains"),
    "pictures": tuple(name for name in MEASUREMENTS if name != "unnamed"),
    "seed": ("drawn",),
    "device": (
        "counterfactual", "removed", "lds", "captions", "identity", "domains", "artists", "adapters"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured, and on what."""

    what: str = field(
        metadata={"positional": True, "choices": MEASUREMENTS, "help": "what to measure"}
    )
    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    work_dir: str = field(
        default="runs", metadata={"help": "where long measurements keep what they can go on from"}
    )
    queries: int = field(
        default=0, metadata={"help": "how many pictures; 0: as many as the measurement wants"}
    )
    pictures: str = field(
        default="",
        metadata={
            "help": "an imagefolder of pictures kept apart, with the collection's labels, which unnamed asks about "
            "instead of what the model draws"
        },
    )
    results: str = field(
        default="", metadata={"help": "a JSON file; benchmarks/results/WHAT.json if not given"}
    )
    update: bool = field(default=False, metadata={"help": "write the rows into the results file"})
    json: bool = field(default=False, metadata={"help": "print one JSON list and nothing else"})
    search: str = field(
        default=EXACT,
        metadata={
            "help": f"who answers: exact, index, auto or ray://ADDRESS ({' and '.join(BY_LIST)} alone; the others need "
            "every training picture's score)"
        },
    )
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 0:
            raise InputError(f"queries is {self.queries}; it must be at least 1, or 0")
        for name, measurements in UNREAD.items():
            if self.what in measurements and getattr(self, name) != getattr(EvaluateConfig, name):
                raise InputError(f"{self.what} does not read --{name}; leave it out")
        if self.search != EXACT and self.what not in BY_LIST:
            raise InputError(
                f"{self.what} needs the score of every training picture, which search {self.search!r} does not give; "
                f"leave --search out, or measure {' or '.join(BY_LIST)}"
            )
        if self.search != EXACT and self.update and not self.results:
            raise InputError(
                f"figures by search {self.search!r} need a file of their own; name one with --results"
            )
