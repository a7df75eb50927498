"""Blocks that several rooms share: `compute:`, `workers:`, `reporting:`, `serving:`, `export:`, and any training."""

from typing import Literal

from pydantic import Field, model_validator

from kdad.parameters.strict import StrictModel


class ComputeParameters(StrictModel):
    """The ``compute:`` block."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where networks run")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of convolutions and cached activations; auto: bfloat16 where the hardware multiplies it"
    )
    threads: int | None = Field(None, ge=1, description="of torch; null: every core that this process may use")
    compile: bool = Field(
        False, description="networks run through torch.compile, which pays on large sets (docs/lab/benchmarks.md)"
    )


class WorkersParameters(StrictModel):
    """The ``workers:`` block."""

    count: int | None = Field(None, ge=1, description="worker processes of this machine; null or 1: this process")
    threads: int | None = Field(None, ge=1, description="torch's threads in each; null: cores divided by count")
    address: str | None = Field(None, description="a Dask scheduler that is there, such as tcp://head:8786")
    connect_seconds: float = Field(30.0, gt=0, description="how long a scheduler may take to answer")
    patience_seconds: float = Field(300.0, gt=0, description="how long a cluster may be without a worker")

    @property
    def is_this_process(self) -> bool:
        """Whether cases run in this process, one after another."""
        return self.address is None and self.count in (None, 1)

    @model_validator(mode="after")
    def _one_cluster(self) -> "WorkersParameters":
        if self.address is not None and (self.count is not None or self.threads is not None):
            raise ValueError("count and threads are of workers begun here; with address they are the cluster's matter")
        return self


class ReportingParameters(StrictModel):
    """The ``reporting:`` block."""

    sheet_rows: int = Field(4, ge=1, le=20, description="images in each section of the heat-map sheet")
    case_sheet_rows: int = Field(2, ge=1, le=10, description="the same of a case of a comparison")


class ServingParameters(StrictModel):
    """The ``serving:`` block."""

    host: str = Field("127.0.0.1", description="address to listen at: the loopback; 0.0.0.0 lets other machines ask")
    port: int = Field(8080, ge=0, le=65535, description="0: a free one, which is said")
    body_megabytes: float = Field(32.0, gt=0, le=1024, description="largest body of a request; more is refused by 413")
    megapixels: float = Field(
        32.0,
        gt=0,
        le=178,
        description="largest image, by its header, before decoding, which takes up to 25 bytes a pixel",
    )
    images: int = Field(64, ge=1, le=10000, description="images of one request at most")
    queue: int = Field(64, ge=1, le=10000, description="requests answered at once; more are refused by 503")
    arriving: int = Field(
        256, ge=1, le=100000, description="bodies that arrive from one address at once; more are refused by 429"
    )
    kilobytes_a_second: float = Field(
        8.0, gt=0, le=100000, description="of a body at least, after its first 2 s; slower ones are refused by 408"
    )
    batch_size: int = Field(8, ge=1, le=1024, description="images predicted at once, of requests that wait together")
    seconds: float = Field(30.0, gt=0, le=3600, description="time of a request, its body's arrival included; then 504")
    threads: int | None = Field(None, ge=1, description="of torch; null: every core that this process may use")
    origins: list[str] = Field([], description="web pages elsewhere that may ask (CORS), as https://shop.example")
    audit: str | None = Field(None, description="file for a line of JSON an image, rotated at 10 MB; null: none")
    token: str | None = Field(
        None,
        min_length=16,
        description="for POST /reload, /rollback and /good, kept in conf/local; null: these are refused",
    )
    teach: str | None = Field(
        None, description="folder for images that people say are good (POST /good), which takes a token; null: none"
    )

    @model_validator(mode="after")
    def _teachers_have_a_token(self) -> "ServingParameters":
        if self.teach is not None and self.token is None:
            raise ValueError("teach needs serving.token, since anybody could teach without; set it in conf/local")
        return self


class TrainingParameters(StrictModel):
    """How a network is trained."""

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images a step")
    learning_rate: float = Field(3e-3, gt=0, description="the optimiser's rate; the peak of the one-cycle schedule")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="what steps")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="of sgd, adam's first beta; one_cycle moves it from 0.95 to 0.85 and back instead"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    schedule: Literal["one_cycle", "constant"] = Field("one_cycle", description="learning-rate schedule")
    checkpoint_every: int = Field(10, ge=1, description="epochs between checkpoints")


RuntimeName = Literal["onnxruntime", "openvino"]
ExportPrecision = Literal["float32", "bfloat16", "int8"]


class ExportParameters(StrictModel):
    """The ``export:`` block."""

    detector: str = Field("latest", description="a folder, latest, or MLflow's runs:/ID or models:/NAME@ALIAS")
    runtime: RuntimeName = Field(
        "onnxruntime", description="what the file is checked with, and predicts by where it is installed"
    )
    precision: ExportPrecision = Field(
        "float32", description="bfloat16 (openvino alone) and int8 are measured, and lose something"
    )
    output: str | None = Field(
        None, description="folder of the results; null: data/06_models/exported/<detector>/onnx_<precision>"
    )
    images: str | None = Field(
        None, description="folder of normal images, or of labelled ones, to check on; null: those of the detector's run"
    )
    most_images: int = Field(200, ge=1, description="of validation and of test images each, evenly spaced")

    @model_validator(mode="after")
    def _runtime_has_the_precision(self) -> "ExportParameters":
        if self.precision == "bfloat16" and self.runtime != "openvino":
            raise ValueError(f"{self.runtime} does not compute in bfloat16 on a CPU; give export.runtime=openvino")
        return self
