"""A home-made journal or a transactional store: the same tasks written to an S3 server by both.

    python benchmarks/transactions.py [--tasks 64] [--wave 8] [--results benchmarks/results]

The server is moto's, in a process of its own, with its store in memory. ``journal`` is what finescale does: plain Zarr
and a journal beside it (`finescale.data.store.ZarrStore`). ``icechunk`` is an Icechunk repository in which every wave
of tasks is one commit, which takes the package icechunk. For both: seconds of writing all tasks, requests that it
got, objects and bytes left, whether xarray opens the result without icechunk; then a run that is killed (SIGKILL)
half-way, and how many of its tasks a second process finds finished. Writes transactions.json and transactions.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing as mp
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (4, 256, 256)


def serve(port: Any, requests: Any) -> None:
    """An S3 server that counts what it is asked."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)

    def counted(environ: Any, start: Any) -> Any:
        requests.value += 1
        return application(environ, start)

    server = make_server("127.0.0.1", 0, counted, threaded=True)
    port.value = server.server_port
    server.serve_forever()


def template(tasks: int) -> Any:
    import dask.array
    import xarray as xr

    values = dask.array.zeros((tasks, *SHAPE), dtype="f4", chunks=(1, *SHAPE))
    return xr.Dataset({"rain": (("time", "realization", "y", "x"), values)})


def part(task: int) -> Any:
    return np.random.default_rng(task).gamma(0.3, 2, (1, *SHAPE)).astype("f4")


def journal(url: str, tasks: int, wave: int, written: Any) -> None:
    from finescale.data import journal
    from finescale.data.store import open_output

    journal.EVERY = 1.0  # as often as the waves end
    store = open_output(url, template(tasks), {"rain": (1, *SHAPE)}, {"seed": 0}, False, True)
    for task in range(tasks):
        store.write(task, [("rain", (slice(task, task + 1), *3 * [slice(None)]), part(task))], [0.0])
        written.value = task + 1
    store.finish({}, {})


def found_by_journal(url: str) -> int:
    from finescale.data.journal import journal
    from finescale.data.place import place

    return len(journal(place(url)).resume({"seed": 0}) or ())


def repository(url: str, make: bool) -> Any:
    import icechunk

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    storage = icechunk.s3_storage(
        bucket=bucket, prefix=prefix, endpoint_url=os.environ["AWS_ENDPOINT_URL"], region="us-east-1",
        access_key_id="a", secret_access_key="b", allow_http=True, force_path_style=True,
    )  # fmt: skip
    return (icechunk.Repository.create if make else icechunk.Repository.open)(storage)


def icechunk_(url: str, tasks: int, wave: int, written: Any) -> None:
    import zarr

    repo = repository(url, True)
    session = repo.writable_session("main")
    template(tasks).to_zarr(session.store, mode="w", compute=False, consolidated=False)
    session.commit("begin", metadata={"done": 0})
    for first in range(0, tasks, wave):
        session = repo.writable_session("main")
        array = zarr.open_group(session.store, mode="r+")["rain"]
        for task in range(first, min(first + wave, tasks)):
            array[task : task + 1] = part(task)
            written.value = task + 1
        session.commit(f"to {first + wave}", metadata={"done": min(first + wave, tasks)})


def found_by_icechunk(url: str) -> int:
    snapshot = next(iter(repository(url, False).ancestry(branch="main")))
    return int(snapshot.metadata.get("done", 0))


KINDS = {"journal": (journal, found_by_journal), "icechunk": (icechunk_, found_by_icechunk)}


def measured(kind: str, tasks: int, wave: int, requests: Any, context: Any) -> dict[str, Any]:
    import fsspec
    import xarray as xr

    write, found = KINDS[kind]
    files = fsspec.filesystem("s3")
    url = f"s3://archive/{kind}.zarr"
    write(f"s3://archive/{kind}-warm.zarr", 2, wave, context.Value("i", 0))  # what is imported once
    before, start = requests.value, time.perf_counter()
    write(url, tasks, wave, context.Value("i", 0))
    seconds = time.perf_counter() - start
    files.invalidate_cache()
    sizes = files.du(f"archive/{kind}.zarr", total=False)
    row: dict[str, Any] = {"seconds": round(seconds, 2), "requests": requests.value - before}
    row |= {"objects": len(sizes), "MB": round(sum(sizes.values()) / 1e6, 1)}
    try:
        row["read by xarray alone"] = "rain" in xr.open_zarr(url, consolidated=False)
    except Exception:
        row["read by xarray alone"] = False
    count = context.Value("i", 0)
    killed = context.Process(target=write, args=(f"s3://archive/{kind}-killed.zarr", tasks, wave, count))
    killed.start()
    while count.value < tasks // 2 + wave // 2:
        time.sleep(0.01)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    row["tasks written before SIGKILL"] = count.value
    row["tasks found after it"] = found(f"s3://archive/{kind}-killed.zarr")
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tasks", type=int, default=64)
    options.add_argument("--wave", type=int, default=8)
    options.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = options.parse_args()
    context = mp.get_context("spawn")
    port, requests = context.Value("i", 0), context.Value("i", 0)
    server = context.Process(target=serve, args=(port, requests), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.1)
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.value}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    import fsspec

    fsspec.filesystem("s3").mkdir("archive")
    kinds = [kind for kind in KINDS if kind == "journal" or importlib.util.find_spec("icechunk")]
    rows = {kind: measured(kind, given.tasks, given.wave, requests, context) for kind in kinds}
    given.results.mkdir(exist_ok=True)
    (given.results / "transactions.json").write_text(json.dumps({"tasks": given.tasks, "wave": given.wave} | rows))
    names = list(rows["journal"])
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {kind} | " + " | ".join(str(row[name]) for name in names) + " |" for kind, row in rows.items()]
    (given.results / "transactions.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    server.terminate()


if __name__ == "__main__":
    main()
