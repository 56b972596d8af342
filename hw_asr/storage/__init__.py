"""Importing the package makes its storages known to the registry; their client libraries load when first used."""

from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.fsspec_storage import FsspecStorage
from hw_asr.storage.gdrive import GDriveStorage

__all__ = ["DirectoryStorage", "FsspecStorage", "GDriveStorage"]
