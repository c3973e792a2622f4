"""Files in repositories of a hub of models."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from skfactors.dictionaries.formats.reading import SUBFOLDERS, Files
from skfactors.dictionaries.persistence import FILES

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def is_repo_name(name: str) -> bool:
    """Say whether something may be the name of a repository."""
    return _REPO.fullmatch(name) is not None and not name.startswith(".")


def files_of_repo(repo: str, revision: str | None, subfolder: str | None, ignore: tuple[str, ...]) -> Files:
    """
    Find the files in a folder of a repository; only what is read is downloaded.

    Parameters
    ----------
    repo : str
    revision : str or None
    subfolder : str or None
        May be a file of tensors.
    ignore : tuple of str

    Returns
    -------
    Files

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    if constants.HF_HUB_OFFLINE:
        # Of what was downloaded before.
        path = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        return Files.at(path / subfolder if subfolder else path, ignore)
    everything = HfApi().list_repo_files(repo, revision=revision)
    folder, chosen = (subfolder or "").strip("/"), None
    if folder in everything:
        folder, _, chosen = folder.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    within = [name.removeprefix(prefix) for name in everything if name.startswith(prefix)]
    names = [name for name in within if "/" not in name or name.rpartition("/")[0] in SUBFOLDERS]
    where = f"{repo}/{subfolder}" if subfolder else repo
    if not names:
        folders = sorted({name.rpartition("/")[0] for name in everything if "/" in name})
        raise FileNotFoundError(
            f"{where!r} holds no files; the repository has {len(folders)} folders, such as {', '.join(folders[:5])}."
        )

    def fetch(name):
        return Path(hf_hub_download(repo, f"{prefix}{name}", revision=revision))

    return Files(where, names, fetch, chosen, ignore)


@contextmanager
def saved_folder(path_or_repo, revision: str | None, subfolder: str | None, token) -> Iterator[Path]:
    """
    Yield the folder with a saved dictionary; of a repository, one that these files were downloaded to.

    Parameters
    ----------
    path_or_repo : path-like
    revision, subfolder, token : str or None

    Yields
    ------
    Path
    """
    path = Path(path_or_repo)
    if path.is_dir():
        yield path / subfolder if subfolder else path
        return
    if not is_repo_name(str(path_or_repo)):
        raise FileNotFoundError(
            f"there is no folder {str(path)!r}, and it is not the name of a repository, as in 'user/name'."
        )
    from huggingface_hub import hf_hub_download

    where = {"revision": revision, "subfolder": subfolder, "token": token}
    with of_plain_files([Path(hf_hub_download(str(path_or_repo), name, **where)) for name in FILES]) as folder:
        yield folder


@contextmanager
def of_plain_files(paths: list[Path]) -> Iterator[Path]:
    """Yield a folder that files lie in; where some are links, as what is downloaded is, one with copies."""
    if not any(path.is_symlink() for path in paths):
        yield paths[0].parent
        return
    with TemporaryDirectory() as folder:
        for path in paths:
            shutil.copyfile(path, Path(folder) / path.name)
        yield Path(folder)
