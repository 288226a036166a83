"""An index in object storage: s3://bucket/prefix, read with the credentials and endpoint of the environment's AWS_… variables.

LanceDB reads them itself: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL (a server of one's own) and
AWS_ALLOW_HTTP=true (one without TLS). What opens an index lies in its table; log, failures and locks of a folder are not there and not missed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tacit.errors import InputError, MissingError, TacitError, UsageError

SCHEME = "s3:/"
PATIENCE = {"connect_timeout": "5s", "client_max_retries": "2", "client_retry_timeout": "20"}  # LanceDB's own is minutes
REFUSED = (
    "status: 401",
    "status: 403",
    "AccessDenied",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "Forbidden",
    "Unauthorized",
    "PermissionDenied",
    "Unauthenticated",
)
NO_ANSWER = ("kind: Connect", "kind: Timeout", "dns error", "error sending request", "Connection refused", "timed out", "kind: Request")
NO_KEYS = ("get AWS credentials", "CredentialsNotLoaded", "NoCredentials")


def in_bucket(index: str | Path) -> str | None:
    """s3://bucket/prefix as LanceDB takes it, also from a Path, which loses a stroke; None for a place on a disk."""
    text = str(index)
    return "s3://" + text.removeprefix(SCHEME).strip("/") if text.startswith(SCHEME) else None


def refuse_bucket(index: str | Path) -> None:
    """Raises UsageError where an index that is to be written lies in a bucket."""
    if (place := in_bucket(index)) is not None:
        raise UsageError(
            f"{place} can be read but not written: object storage has no locks that end with their process; write to a folder, then copy it there: "
            f"aws s3 sync INDEX/images.lance {place}/images.lance --delete"
        )


def connect_bucket(place: str) -> Any:
    """LanceDB's connection to a place in a bucket."""
    import lancedb

    return lancedb.connect(place, storage_options=PATIENCE)


def bucket_error(place: str, error: Exception) -> TacitError | None:
    """What LanceDB says of a bucket, in our words; None where it speaks of something else."""
    said = str(error)
    bucket = place.removeprefix("s3://").split("/")[0]
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or "Amazon's own endpoint"
    if "NoSuchBucket" in said:
        return InputError(f"the index {place}: there is no bucket {bucket} at {endpoint}; check its name, AWS_ENDPOINT_URL and AWS_REGION")
    if "was not found" in said and "Table" in said:
        return InputError(f"{place} is no index of Tacit (it holds no images.lance); copy one there: aws s3 sync INDEX/images.lance {place}/images.lance")
    if any(word in said for word in NO_KEYS):
        return MissingError(f"the index {place}: no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if any(word in said for word in REFUSED):
        return MissingError(f"the index {place}: {endpoint} refuses these credentials; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN")
    if "builder error" in said or "scheme is not allowed" in said or "BadScheme" in said:
        return MissingError(f"the index {place}: {endpoint} is not encrypted; set AWS_ALLOW_HTTP=true to use it all the same")
    if "resolve region" in said:
        return MissingError(f"the index {place}: the region of bucket {bucket} is not known at {endpoint}; check its name and the network, or set AWS_REGION")
    if any(word in said for word in NO_ANSWER):
        return MissingError(f"the index {place}: no object storage answers at {endpoint}; check AWS_ENDPOINT_URL and the network")
    return None
