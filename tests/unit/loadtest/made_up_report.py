"""A report with round numbers."""

from loadtest.bench.ceiling import Ceiling, Rate, Setting
from loadtest.bench.load import Closed, Load, Measured, Open
from loadtest.bench.report import Footprint, PeerReport, Report
from loadtest.stats import Latency


def measured(arrivals, texts_per_s: float, *, p99_s: float = 0.010, texts: int = 1, complaint: str | None = None) -> Measured:
    return Measured(
        load=Load(arrivals, texts, 1.0, 10.0, 5.0),
        texts_per_s=texts_per_s,
        outcomes={"200": 990, "503": 10},
        latency=Latency(1_000, 0.004, 0.008, p99_s, 0.02, 0.03),
        lateness_p99_s=0.0001,
        windows_per_text=1.02,
        overhead_p50_s=0.0003,
        beside_model_p50_s=0.0005,
        driver_cpu=0.1,
        server_cpu=1.8,
        complaint=complaint,
    )


def ceiling(texts_per_s: float) -> Ceiling:
    best, other = Setting(2, 1, "sorted", 8, 512), Setting(1, 2, "arrival", 16, 512)
    rates = [Rate(best, texts_per_s, texts_per_s * 24, 0.002), Rate(other, texts_per_s / 2, texts_per_s * 12, 0.004)]
    return Ceiling(rates, windows=1_040, tokenise_s_per_text=0.0001, alone_s={0: 0.003})


def peer(rate: float) -> PeerReport:
    return PeerReport("the same model.onnx", [measured(Closed(8), rate)], measured(Open(rate), rate, p99_s=0.08), 9, None)


def report(**fields) -> Report:
    settled = {
        "machine": {"cpu": "A CPU", "cores": 2, "load_before": 0.1},
        "texts": {"source": "made up", "count": 1_000, "windows": 1_040, "tokens_per_text": 24.0},
        "artifact": {"version": "1", "precision": "int8"},
        "ceiling": ceiling(800.0),
        "ceiling_again": Rate(Setting(2, 1, "sorted", 8, 512), 780.0, 780.0 * 24, 0.002),
        "stock": None,
        "singles": [measured(Closed(1), 250.0), measured(Closed(64), 720.0), measured(Closed(256), 700.0)],
        "arrays": [measured(Closed(4), 784.0, texts=32)],
        "opened": {0.3: measured(Open(216.0), 216.0), 0.6: measured(Open(432.0), 432.0, p99_s=0.012)},
        "footprint": Footprint(1.5, 0.002, 180_000_000, 210_000_000),
    }
    return Report(**settled | fields)
