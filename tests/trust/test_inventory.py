"""What is in images made by hand: packages of every kind, licences, and files of no package."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aml_images_dagster.catalog.image_file import Content
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust import file_tree
from aml_images_dagster.trust import inventory as inventory_module
from aml_images_dagster.trust.inventory import Unowned, read_inventory
from tests.trust.images import Folder, Link

RPM_DATABASE = gzip.decompress((Path(__file__).parent / "rpmdb.sqlite.gz").read_bytes())
"""Made by rpm 4.18 of Debian 12: packages widget and widget-libs, epoch 2, version 1.4, release 3."""

UBUNTU = 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n'
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n'
FEDORA = "NAME=Fedora\nID=fedora\nVERSION_ID=40\n"
DEP5 = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: curl

Files: *
Copyright: 1996, Daniel
License: curl

Files: debian/*
License: GPL-2+ or Artistic, and Expat
 What follows is the text.

License: GPL-3
 A paragraph of its own says nothing of files.
"""


def deb(name: str, version: str, **fields: str) -> str:
    lines = {"Package": name, "Status": "install ok installed", "Version": version, "Architecture": "amd64"} | fields
    return "".join(f"{key}: {value}\n" for key, value in lines.items()) + "\n"


def dist_info(name: str, version: str, *fields: str, folder: str = "usr/lib/python3/site-packages") -> dict[str, str]:
    where = f"{folder}/{name}-{version}.dist-info"
    metadata = "".join(
        f"{line}\n" for line in ("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *fields)
    )
    record = f"{name}/__init__.py,,\n{name}-{version}.dist-info/METADATA,,\n{name}-{version}.dist-info/RECORD,,\n"
    return {
        f"{where}/METADATA": f"{metadata}\nA text.\n",
        f"{where}/RECORD": record,
        f"{folder}/{name}/__init__.py": "",
    }


def conda(name: str, version: str, prefix: str = "opt/miniconda", **fields: object) -> dict[str, str]:
    meta = {"name": name, "version": version, "build": "0", "license": "BSD-3-Clause", "files": [f"lib/{name}.so"]}
    path = f"{prefix}/conda-meta/{name}-{version}-0.json"
    return {path: json.dumps(meta | fields), f"{prefix}/lib/{name}.so": ""}


def versions(inventory):
    return {package.name: package.version for package in inventory.packages}


@pytest.mark.parametrize(
    ("state", "is_there"),
    [
        ("installed", True),
        ("triggers-pending", True),
        ("triggers-awaited", True),
        ("half-configured", True),
        ("unpacked", True),
        ("half-installed", False),
        ("config-files", False),
        ("not-installed", False),
    ],
)
def test_a_package_is_there_as_soon_as_its_files_are(read, state, is_there):
    """States are those of dpkg(1)."""
    inventory = read({"var/lib/dpkg/status": deb("curl", "1", Status=f"install ok {state}")})
    assert versions(inventory) == ({"curl": "1"} if is_there else {})


def test_ubuntu(read):
    status = (
        deb("curl", "8.5.0-2ubuntu10", Source="curl (8.5.0-2)", Maintainer="Ubuntu Developers <u@example.org>")
        + deb("libc6", "2.39-0ubuntu8", Source="glibc", Description="C\n library\n .\n in lines")
        + deb("gone", "1", Status="deinstall ok config-files")
    )
    inventory = read(
        {
            "usr/lib/os-release": UBUNTU,
            "etc/os-release": Link("../usr/lib/os-release"),
            "lib": Link("usr/lib"),
            "var/lib/dpkg/status": status,
            "var/lib/dpkg/info/libc6:amd64.list": "/.\n/lib\n/lib/libc.so.6\n",
            "var/lib/dpkg/info/curl.list": "/.\n/usr/bin/curl\n",
            "usr/lib/libc.so.6": "",
            "usr/bin/curl": "",
            "usr/share/doc/curl/copyright": DEP5,
            "usr/share/doc/libc6": Link("glibc"),
            "usr/share/doc/glibc/copyright": "See /usr/share/common-licenses/LGPL-2.1 and\n"
            "/usr/share/common-licenses/Apache-2.0.\n",
        }
    )
    curl, libc6 = inventory.packages
    assert str(curl.purl) == (
        "pkg:deb/ubuntu/curl@8.5.0-2ubuntu10?arch=amd64&distro=ubuntu-24.04&upstream=curl%408.5.0-2"
    )
    assert str(libc6.purl) == "pkg:deb/ubuntu/libc6@2.39-0ubuntu8?arch=amd64&distro=ubuntu-24.04&upstream=glibc"
    assert curl.licence == "((GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT) AND curl"
    assert libc6.licence == "Apache-2.0 AND LicenseRef-common-licenses-LGPL-2.1"
    assert (curl.licence_origin, libc6.licence_origin) == ("copyright file", "text")
    assert inventory.distribution["PRETTY_NAME"] == "Ubuntu 24.04.1 LTS"
    assert (inventory.unowned, inventory.unread) == ((), ())
    assert inventory.created == datetime(2026, 11, 26, 6, 23, 6, tzinfo=UTC)
    assert inventory.platform == "linux/amd64"


def test_an_image_without_dpkg(read):
    inventory = read(
        {
            "etc/os-release": "ID=debian\nVERSION_ID='12'\n",
            "var/lib/dpkg/status.d/libssl3": "Package: libssl3\nVersion: 3.0.17-1\nArchitecture: amd64\n",
            "var/lib/dpkg/status.d/libssl3.md5sums": "0123456789abcdef  usr/lib/libssl.so.3\n",
            "usr/lib/libssl.so.3": "",
        }
    )
    assert [str(package.purl) for package in inventory.packages] == [
        "pkg:deb/debian/libssl3@3.0.17-1?arch=amd64&distro=debian-12"
    ]
    assert inventory.unowned_files == 0


def test_alpine(read):
    installed = """\
C:Q1abc=
P:musl
V:1.2.5-r0
A:x86_64
L:MIT
o:musl
U:https://musl.libc.org/
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755

P:ssl_client
V:1.36.1-r29
A:x86_64
L:GPL-2.0-only
o:busybox
F:usr
F:usr/bin
R:ssl_client
"""
    files = {"lib/ld-musl-x86_64.so.1": "", "usr/bin/ssl_client": "", "usr/bin/mine": ""}
    inventory = read({"etc/os-release": ALPINE, "lib/apk/db/installed": installed, **files})
    assert [(str(package.purl), package.licence) for package in inventory.packages] == [
        ("pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.3", "MIT"),
        ("pkg:apk/alpine/ssl_client@1.36.1-r29?arch=x86_64&distro=alpine-3.20.3&upstream=busybox", "GPL-2.0-only"),
    ]
    assert inventory.unowned == (Unowned("usr/bin/mine", 1),)


@pytest.mark.parametrize("folder", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_fedora(read, folder):
    files = {
        "usr/share/widget/readme": "",
        "usr/share/widget/lib": "",
        # Python's package that a package of RPM brings is that one.
        "usr/lib/python3.9/site-packages/widget-1.4.dist-info/METADATA": "Name: widget\nVersion: 1.4\n\n",
    }
    inventory = read({"etc/os-release": FEDORA, f"{folder}/rpmdb.sqlite": RPM_DATABASE, **files})
    widget, libs = inventory.packages
    assert str(widget.purl) == (
        "pkg:rpm/fedora/widget@1.4-3?arch=noarch&distro=fedora-40&epoch=2&upstream=widget-1.4-3.src.rpm"
    )
    assert (widget.version, widget.licence) == ("2:1.4-3", "GPL-2.0-or-later AND MIT")
    assert (libs.name, libs.licence, libs.supplier) == (
        "widget-libs",
        "Apache-2.0 OR MIT",
        "Widget Makers <x@widget.example>",
    )
    assert (inventory.unowned, inventory.unread) == ((), ())


@pytest.mark.parametrize("name", ["Packages", "Packages.db"])
def test_a_database_of_rpm_that_is_not_read_is_named(read, name):
    inventory = read({f"var/lib/rpm/{name}": b"\0" * 100})
    assert inventory.packages == ()
    assert len(inventory.unread) == 1
    assert inventory.unread[0].startswith(f"var/lib/rpm/{name}: a database of RPM in a form that is not read")


def test_an_environment_of_conda(read):
    layer = conda("numpy", "1.26.4", channel="https://conda.anaconda.org/conda-forge/linux-64", subdir="linux-64")
    layer |= conda("numpy", "1.26.4", prefix="opt/miniconda/pkgs/numpy-1.26.4-0")
    layer |= dist_info("numpy", "1.26.4", folder="opt/miniconda/lib/python3.11/site-packages")
    cached = "opt/miniconda/pkgs/numpy-1.26.4-0/lib/python3.11/site-packages/numpy-1.26.4.dist-info/METADATA"
    inventory = read([*layer.items(), (cached, Link(next(name for name in layer if "METADATA" in name), hard=True))])
    assert [(str(package.purl), package.licence) for package in inventory.packages] == [
        ("pkg:conda/numpy@1.26.4?build=0&channel=conda-forge&subdir=linux-64", "BSD-3-Clause"),
        ("pkg:pypi/numpy@1.26.4", ""),
    ]


@pytest.mark.parametrize(
    ("fields", "licence", "origin"),
    [
        (["License-Expression: Apache-2.0 OR MIT", "License: else"], "Apache-2.0 OR MIT", "License-Expression"),
        (["License: MIT"], "MIT", "License"),
        (["License: BSD"], "LicenseRef-BSD", "License"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT", "classifiers"),
        (["Classifier: License :: OSI Approved"], "", ""),
        (
            ["License: A text", " of several lines", "Classifier: License :: OSI Approved :: BSD License"],
            "LicenseRef-BSD-License",
            "classifiers",
        ),
    ],
)
def test_licences_of_python(read, fields, licence, origin):
    (package,) = read(dist_info("Some.Name", "1", *fields)).packages
    assert (package.name, package.licence, package.licence_origin) == ("some-name", licence, origin)


def test_distributions_of_python_wherever_they_are(read):
    package = "Name: {}\nVersion: 1\n\n"
    inventory = read(
        {
            **dist_info("a", "1", folder="opt/venv/lib/python3.12/site-packages"),
            **dist_info("vendored", "1", folder="opt/venv/lib/python3.12/site-packages/a/_vendor"),
            "opt/b/b.egg-info/PKG-INFO": package.format("b"),
            "opt/b/b.egg-info/installed-files.txt": "../b.py\n",
            "opt/b/b.py": "",
            "usr/lib/python3/dist-packages/c-1.egg-info": package.format("c"),
            "usr/lib/python3/dist-packages/d-1-py3.11.egg/EGG-INFO/PKG-INFO": package.format("d"),
            "usr/lib/python3/dist-packages/tests/data/e-1-py3.11.egg/EGG-INFO/PKG-INFO": package.format(
                "not-installed"
            ),
        }
    )
    assert sorted(versions(inventory)) == ["a", "b", "c", "d", "vendored"]
    assert [unowned.path for unowned in inventory.unowned] == ["usr/lib/python3/dist-packages/tests/"]


def test_layers_hide_what_is_below(read):
    old = conda("python", "3.8.18") | dist_info("x", "1") | {"var/lib/dpkg/status": deb("bash", "1")}
    new = conda("python", "3.10.13") | dist_info("y", "2")
    new["opt/miniconda/conda-meta/.wh.python-3.8.18-0.json"] = ""
    new["usr/lib/python3/site-packages/.wh..wh..opq"] = ""
    new["var/lib/dpkg/status"] = deb("bash", "2") + deb("dash", "1")
    assert versions(read(old, new)) == {"python": "3.10.13", "y": "2", "bash": "2", "dash": "1"}


def test_files_of_no_package(read):
    files = {
        "opt/tool/bin/tool": "",
        "opt/tool/lib/a.so": "",
        "opt/known/file": "",
        "opt/known/more/file": "",
        "README": "",
        "etc/passwd": "",
        "var/lib/state/x": "",
        "usr/lib/python3/site-packages/x/__pycache__/y.pyc": "",
    }
    known = {"var/lib/dpkg/info/known.list": "/opt/known/file\n"}
    inventory = read(files | known)
    assert inventory.unowned == (Unowned("README", 1), Unowned("opt/known/more/", 1), Unowned("opt/tool/", 2))
    assert (inventory.unowned_files, inventory.files) == (4, 9)


def test_the_list_of_files_of_no_package_has_an_end(read, monkeypatch):
    monkeypatch.setattr(inventory_module, "MOST_UNOWNED", 3)
    inventory = read({**{f"f{number}": "" for number in range(10)}, "opt/large/a": "", "opt/large/b": ""})
    assert inventory.unowned == (Unowned("f0", 1), Unowned("f1", 1), Unowned("opt/large/", 2))
    assert inventory.unowned_files == 12


def test_declared_contents_are_packages_and_their_files_are_known(read):
    contents = [
        Content(name="OpenBLAS", version="0.3.29", licence="BSD-3-Clause", path="/opt/numpy.libs"),
        Content(name="MLNX_OFED", version="24", licence="LicenseRef-Mellanox", reason="its installer keeps no list"),
        Content(name="absent", version="1", licence="MIT", path="/opt/absent"),
    ]
    inventory = read({"opt/numpy.libs/libopenblas.so": "", "opt/else/file": ""}, contents=contents)
    assert [(str(package.purl), package.licence, package.location) for package in inventory.packages] == [
        ("pkg:generic/MLNX_OFED@24", "LicenseRef-Mellanox", ""),
        ("pkg:generic/OpenBLAS@0.3.29", "BSD-3-Clause", "opt/numpy.libs"),
        ("pkg:generic/absent@1", "MIT", "opt/absent"),
    ]
    assert inventory.unowned == (Unowned("opt/else/", 1),)
    assert inventory.unread == ("image.json declares absent at /opt/absent, where the image has nothing",)


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("opt/conda-meta/a.json", "{", "not valid JSON"),
        ("opt/conda-meta/a.json", "[]", "no name or no version"),
        ("opt/conda-meta/a.json", "[" * 400_000, "more than 300,000 lists and objects"),
        ("opt/conda-meta/a.json", "[" * 200_000, "not valid JSON"),
        ("opt/conda-meta/a.json", " " * 13_000_000, "it has more than 12,582,912 bytes"),
        ("opt/a.dist-info/METADATA", "Nothing", "no name or no version"),
        ("opt/a.dist-info/METADATA", "Name: //\nVersion: 1\n", "'//' is no name of a package"),
        ("opt/a.dist-info/RECORD", "a\n" * 600_000, "it has more than 500,000 lines"),
        ("opt/a.dist-info/RECORD", 'a,"' + "x" * 200_000, "field larger than field limit (131072)"),
        ("var/lib/rpm/rpmdb.sqlite", "no database", "not readable as a database: file is not a database"),
        (
            "var/lib/rpm/rpmdb.sqlite",
            RPM_DATABASE[:9000],
            "not readable as a database: database disk image is malformed",
        ),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_else_is_lost(read, path, content, why):
    inventory = read({path: content, **conda("good", "1")})
    assert inventory.unread == (f"{path}: {why}",)
    assert versions(inventory) == {"good": "1"}


def test_several_platforms(registry, records):
    amd64, arm64 = (
        registry.push(dist_info("a", "1")),
        registry.push(dist_info("a", "2"), architecture="arm64", variant="v8"),
    )
    index = registry.push_index(
        {"digest": amd64.digest, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": arm64.digest, "size": 1, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": amd64.digest, "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
    )
    images = images_of(registry, index)
    assert images == {"linux/amd64": amd64, "linux/arm64": arm64}
    inventories = [read_inventory(registry, image, records) for image in images.values()]
    assert [(each.platform, versions(each)) for each in inventories] == [
        ("linux/amd64", {"a": "1"}),
        ("linux/arm64", {"a": "2"}),
    ]


def test_an_image_that_is_not_there(registry):
    image = registry.push({})
    with pytest.raises(BadInput, match="no such image"):
        images_of(registry, image.with_digest(f"sha256:{'0' * 64}"))


def test_a_layer_that_is_elsewhere_is_named(registry, records):
    image = registry.push({"a": Folder()})
    manifest = registry.manifests[image.digest]
    document = json.loads(manifest.body)
    document["layers"][0]["urls"] = ["https://mcr.example/x"]
    inventory = read_inventory(registry, registry._put(document, manifest.media_type), records)
    assert inventory.unread == (f"layer {document['layers'][0]['digest']}: it is not in this registry",)


@pytest.mark.parametrize("created", [None, "yesterday", 5])
def test_an_image_that_does_not_say_when_it_was_made(registry, records, created):
    inventory = read_inventory(registry, registry.push({}, created=created), records)
    assert inventory.created == datetime(1970, 1, 1, tzinfo=UTC)


def test_texts_of_strangers_are_cut_and_have_no_halves_of_characters(read):
    meta = {"opt/conda-meta/a.json": '{"name": "\\ud800a", "version": "1", "license": "' + "x" * 5000 + '"}'}
    status = {"var/lib/dpkg/status": deb("b", "1", Maintainer=" " * 1000 + "x" * 100_000)}
    first, second = read(meta, status).packages
    assert str(first.purl) == "pkg:conda/%3Fa@1"
    assert max(len(first.licence), len(second.supplier)) <= 1000


def test_lists_of_files_that_do_not_fit_are_named(read, monkeypatch):
    monkeypatch.setattr(file_tree, "MOST_OF_DOCUMENTS", 2000)
    inventory = read(conda("a", "1"), conda("b", "1"), {"opt/conda-meta/c.json": "{}", **conda("c", "1")})
    assert versions(inventory) == {"a": "1", "b": "1"}
    assert inventory.unread[-1].endswith("c-1-0.json: the image has more lists of files than fit")


def test_texts_of_licences_are_read_once_each_with_the_packages_whose_they_are(registry, records):
    grant = "Permission is hereby granted.\n"
    files = {
        "var/lib/dpkg/status": deb("libssl3", "3.0", Source="openssl") + deb("openssl", "3.0"),
        "usr/share/doc/libssl3/copyright": "Apache, see\n/usr/share/common-licenses/Apache-2.0.\n",
        "usr/share/doc/openssl": Link("libssl3"),
        "usr/share/common-licenses/Apache-2.0": "the terms\n",
        "usr/share/common-licenses/Apache": Link("Apache-2.0"),
        "usr/share/licenses/zlib/LICENSE": "of a package of RPM that is not there\n",
        **dist_info("a", "1"),
        "usr/lib/python3/site-packages/a-1.dist-info/licenses/vendored/LICENSE.md": grant,
        **dist_info("b", "2"),
        "usr/lib/python3/site-packages/b-2.dist-info/LICENSE": grant.replace(" ", "\n"),
        "usr/lib/python3/site-packages/b-2.dist-info/entry_points.txt": "no text of a licence\n",
    }
    image = registry.push(files)
    found = read_inventory(registry, image, records, with_texts=True)

    assert [(each.of, " ".join(each.text.split())) for each in found.texts] == [
        (("/usr/share/common-licenses/Apache-2.0",), "the terms"),
        (("deb libssl3 3.0", "deb openssl 3.0"), "Apache, see /usr/share/common-licenses/Apache-2.0."),
        (("pypi a 1", "pypi b 2"), "Permission is hereby granted."),
    ]
    assert read_inventory(registry, image, records).texts == ()
    assert "texts" not in found.document()


def test_a_text_of_a_package_of_rpm(read, registry, records):
    files = {"var/lib/rpm/rpmdb.sqlite": RPM_DATABASE, "usr/share/licenses/widget/COPYING": "of the widget"}
    (text,) = read_inventory(registry, registry.push(files), records, with_texts=True).texts
    assert text.of == ("rpm widget 2:1.4-3",)


def test_a_text_that_somebody_has_put_there_is_of_no_package(read):
    inventory = read({"usr/share/licenses/strange/COPYING": "of nobody"})
    assert inventory.unowned_files == 1
