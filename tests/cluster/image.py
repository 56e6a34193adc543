#!/usr/bin/env python3
"""Writes a one-layer OCI image archive, from scratch, without a daemon; the same input gives the same bytes.

image.py REFERENCE ARCHIVE [--user UID:GID] [--entrypoint ARGUMENT]... [--env NAME=VALUE]... PART...

A PART is FILE=PATH, an executable at its path in the image, or DIRECTORY, a whole root.
Load the archive with `cluster.sh load ARCHIVE`.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("reference")
    parser.add_argument("archive")
    parser.add_argument("parts", nargs="+")
    parser.add_argument("--user", default="65532:65532")
    parser.add_argument("--entrypoint", action="append", default=[])
    parser.add_argument("--env", action="append", default=["PATH=/usr/local/bin:/usr/bin:/bin"])
    return parser.parse_intermixed_args()


def add_bytes(archive, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def anonymous(entry):
    """Nothing of who made the file, and when."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def layer(parts):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for part in parts:
            if os.path.isdir(part):
                for name in sorted(os.listdir(part)):
                    archive.add(os.path.join(part, name), arcname=name, filter=anonymous)
            else:
                source, path = part.split("=", 1)
                with open(source, "rb") as file:
                    add_bytes(archive, path.lstrip("/"), file.read(), 0o755)
    return data.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def document(value):
    return json.dumps(value, separators=(",", ":")).encode()


def descriptor(kind, data):
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}


def main():
    wanted = arguments()
    plain = layer(wanted.parts)
    packed = gzip.compress(plain, 1, mtime=0)
    config = document({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": wanted.entrypoint,
            "Env": wanted.env,
            "User": wanted.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
    })
    manifest = document({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar+gzip", packed)],
    })
    entry = descriptor("manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": wanted.reference}
    with tarfile.open(wanted.archive, "w") as archive:
        add_bytes(archive, "oci-layout", document({"imageLayoutVersion": "1.0.0"}))
        add_bytes(archive, "index.json", document({"schemaVersion": 2, "manifests": [entry]}))
        for data in (config, packed, manifest):
            add_bytes(archive, "blobs/sha256/" + hashlib.sha256(data).hexdigest(), data)


if __name__ == "__main__":
    main()
