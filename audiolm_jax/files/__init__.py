"""Files and folders: what is read without trusting it, and written whole or not at all."""

from audiolm_jax.files.replacing import (
    error_names,
    file_mode_mask,
    is_plain_name,
    replace_file,
    replace_files,
    user_cache_folder,
)

__all__ = ["error_names", "file_mode_mask", "is_plain_name", "replace_file", "replace_files", "user_cache_folder"]
