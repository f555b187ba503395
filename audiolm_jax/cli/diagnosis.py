"""`audiolm plot` and `doctor`: how trainings go, and whether the installation works."""

import sys
from argparse import Namespace

from audiolm_jax.cli import arguments
from audiolm_jax.files import outputs


def add_plot(parser) -> None:
    """The arguments of `audiolm plot`."""
    parser.add_argument(
        "runs", nargs="+", metavar="WORKDIR", help="work directory of a training, or a folder that holds some"
    )
    parser.add_argument(
        "--output", default="plot.html", metavar="FILE", help="the page (default plot.html), replaced if it is there"
    )
    parser.add_argument(
        "--live", action="store_true",
        help="write it again while the trainings run, until they are done or ^C; the page reloads itself",
    )  # fmt: skip
    parser.add_argument(
        "--every", type=arguments.length, default=30.0, metavar="S",
        help="how often --live looks for new figures, in seconds (default 30)",
    )  # fmt: skip
    parser.add_argument(
        "--axis", choices=("steps", "seconds"), default="steps",
        help="steps (default), or the time that was trained: without compilation, evaluation and pauses",
    )  # fmt: skip
    parser.add_argument("--log_axis", action="store_true", help="show the first steps wide, on a logarithmic axis")
    parser.add_argument(
        "--smooth", type=arguments.positive, default=9, metavar="N",
        help="log lines that curves of training are the mean of (default 9; 1: as they are)",
    )  # fmt: skip
    arguments.add_json(parser)


def plot(args: Namespace) -> int:
    """Writes the page of trainings."""
    from audiolm_jax.page.training.live import keep_page, write_page
    from audiolm_jax.page.training.page import PageSettings
    from audiolm_jax.page.training.runs import find_workdirs, to_json

    workdirs = find_workdirs(args.runs)
    outputs.check_files([args.output])
    settings = PageSettings(args.axis, args.log_axis, args.smooth)
    if args.live:
        print(f"{args.output}: open it in a browser; ^C ends", file=sys.stderr)

        def tell(runs):
            steps = ", ".join(f"{run.name} step {run.last_step}" for run in runs)
            print(f"{args.output}: {steps}", file=sys.stderr)

        runs = keep_page(workdirs, args.output, settings, args.every, written=tell)
    else:
        runs = write_page(workdirs, args.output, settings)
    for run in runs:
        for fault in run.faults:
            if fault.stands:
                print(f"{run.name} step {fault.last_step}: {fault.words}", file=sys.stderr)
    print(f"{args.output}: {len(runs)} training{'s' * (len(runs) != 1)}; open it in a browser", file=sys.stderr)
    arguments.write_json(args.json, {"page": str(args.output), "runs": [to_json(run) for run in runs]})
    return 0
