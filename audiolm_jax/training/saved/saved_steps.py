"""Which checkpoints a work directory holds, told by the names of their folders, and what to say where there is none."""

from pathlib import Path

from audiolm_jax.errors import UserError


def checkpoint_folder(workdir: str | Path) -> Path:
    """Where the checkpoints of a work directory lie, each in a folder named by its step."""
    return Path(workdir).absolute() / "checkpoints"


def saved_steps(workdir: str | Path) -> list[int]:
    """Steps that are saved in a work directory, newest first; a checkpoint that is still being written is not."""
    folder = checkpoint_folder(workdir)
    return sorted((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), reverse=True)


def no_checkpoint(workdir: str | Path) -> UserError:
    """The error to raise where a folder that somebody named as the work directory of a training holds no checkpoint."""
    if not Path(workdir).is_dir():
        why = ": there is no such folder; give the work directory of a training"
    elif (Path(workdir) / "manifest.json").exists():
        why = (": by its manifest.json it is a bundle, an imported model or a folder of tokens; give the work "
               "directory of a training, which `audiolm train` wrote")
    else:
        why = "; train there first"
    return UserError(f"no checkpoint in {workdir}{why}")
