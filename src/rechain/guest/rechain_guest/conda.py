"""`conda` inside a job: what scripts ask of it is read from the environment's own records.

The environment is shared and as its lock says, so what would change it is refused.
"""

import json
import os
import re
import sys

__all__ = ["main"]

# v1's images have this Miniconda, which is what old scripts expect.
VERSION = "4.5.11"
_ANSWERED = "list, info, env list, env export, --version"


def main(argv):
    """Answer one call of conda.

    Args:
        argv: its arguments.

    Returns:
        The exit code.
    """
    argv, values = _options(argv)
    words = [word for word in argv if not word.startswith("-")]
    if "-V" in argv or "--version" in argv:
        print("conda {}".format(VERSION))
        return 0
    prefix = os.environ.get("CONDA_PREFIX")
    if not prefix or not os.path.isdir(os.path.join(prefix, "conda-meta")):
        return _refuse("CONDA_PREFIX names no environment of conda")
    if words[:1] == ["list"]:
        return _list(prefix, argv)
    if words[:2] == ["env", "export"]:
        return _export(prefix, argv, values.get("--file"))
    if words[:2] == ["env", "list"] or (words[:1] == ["info"] and {"-e", "--envs"} & set(argv)):
        return _environments(prefix, argv)
    if words[:1] == ["info"]:
        return _info(prefix, argv)
    if not words or words[0] in ("activate", "deactivate"):
        return _refuse("the environment of this job is active, and the only one")
    return _refuse(
        "'conda {}' is not answered in a job: its environment is what its lock says. Ask for "
        "packages with conda_packages or conda_dependencies_file; a job may `pip install` for "
        "itself. Answered are: {}".format(" ".join(words[:2]), _ANSWERED)
    )


def _options(argv):
    """Return the arguments without the options that have a value, and these values."""
    names = {"-n": "--name", "-p": "--prefix", "-f": "--file"}
    names.update({long: long for long in names.values()})
    rest, values, at = [], {}, 0
    while at < len(argv):
        option, equals, value = argv[at].partition("=")
        if option in names and (equals or at + 1 < len(argv)):
            at += 0 if equals else 1
            values[names[option]] = value if equals else argv[at]
        else:
            rest.append(argv[at])
        at += 1
    return rest, values


def _refuse(why):
    sys.stderr.write("conda (of Rechain): {}\n".format(why))
    return 1


def _installed(prefix):
    """Return what is installed, by name, as conda lists it."""
    found = []
    names = set()
    folder = os.path.join(prefix, "conda-meta")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".json"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            record = json.load(file)
        channel = record.get("channel", "").rstrip("/")
        entry = {
            "base_url": channel.rpartition("/")[0],
            "build_number": record["build_number"],
            "build_string": record["build"],
            "channel": channel.rpartition("/")[2],
            "dist_name": "{name}-{version}-{build}".format(**record),
            "name": record["name"],
            "platform": record["subdir"],
            "version": record["version"],
            "url": record["url"],
        }
        found.append(entry)
        for path in record.get("files", ()):
            if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO", ".egg-info")):
                names.add(_parts(path)[0])
    found += [entry for entry in _of_pip(prefix) if entry["name"] not in names]
    return sorted(found, key=lambda entry: entry["name"].lower())


def _parts(path):
    """Return name and version of a distribution, from the path of its metadata."""
    folder = re.search(r"([^/]+)\.(?:dist|egg)-info", path)
    name, _, version = folder.group(1).partition("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version.partition("-")[0]


def _of_pip(prefix):
    lib = os.path.join(prefix, "lib")
    for python in sorted(os.listdir(lib)):
        site = os.path.join(lib, python, "site-packages")
        if not re.match(r"python3\.\d+$", python) or os.path.islink(os.path.dirname(site)):
            continue
        for name in sorted(os.listdir(site)):
            if name.endswith(".dist-info"):
                package, version = _parts(name)
                yield {
                    "base_url": "pypi",
                    "build_number": 0,
                    "build_string": "pypi_0",
                    "channel": "pypi",
                    "dist_name": "{}-{}-pypi_0".format(package, version),
                    "name": package,
                    "platform": "pypi",
                    "version": version,
                    "url": None,
                }


def _list(prefix, argv):
    wanted = [word for word in argv[1:] if not word.startswith("-") and word != "list"]
    entries = _installed(prefix)
    if wanted:
        entries = [entry for entry in entries if re.search(wanted[0], entry["name"])]
    if "--json" in argv:
        print(json.dumps(entries, indent=2))
    elif "--explicit" in argv:
        print("@EXPLICIT")
        for entry in entries:
            if entry["url"]:
                print(entry["url"])
    elif "-e" in argv or "--export" in argv:
        print("# platform: linux-64")
        for entry in entries:
            print("{name}={version}={build_string}".format(**entry))
    else:
        print("# packages in environment at {}:\n#".format(prefix))
        print("# {:<23} {:<15} {:<15} {}".format("Name", "Version", "Build", "Channel"))
        for entry in entries:
            print("{name:<25} {version:<15} {build_string:<15} {channel}".format(**entry))
    return 0


def _export(prefix, argv, path):
    conda, pip = [], []
    channels = []
    for entry in _installed(prefix):
        if entry["channel"] == "pypi":
            pip.append("{name}=={version}".format(**entry))
            continue
        text = "{name}={version}".format(**entry)
        if "--no-builds" not in argv:
            text += "={}".format(entry["build_string"])
        conda.append(text)
        address = "{}/{}".format(entry["base_url"], entry["channel"])
        if address not in channels:
            channels.append(address)
    if "--from-history" in argv:
        conda, pip = _requested(prefix) or conda, []
    if "--json" in argv:
        dependencies = conda + ([{"pip": pip}] if pip else [])
        document = {"name": None, "channels": channels, "dependencies": dependencies}
        return _write(json.dumps(dict(document, prefix=prefix), indent=2), path)
    lines = ["name: null", "channels:"] + ["  - {}".format(one) for one in channels]
    lines += ["dependencies:"] + ["  - {}".format(one) for one in conda]
    if pip:
        lines += ["  - pip:"] + ["    - {}".format(one) for one in pip]
    return _write("\n".join(lines + ["prefix: {}".format(prefix)]), path)


def _write(text, path):
    if path is None:
        print(text)
        return 0
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    return 0


def _requested(prefix):
    try:
        with open(os.path.join(prefix, "lock.json"), encoding="utf-8") as file:
            return list(json.load(file)["conda"]["requested"])
    except (OSError, ValueError, KeyError):
        return []


def _environments(prefix, argv):
    if "--json" in argv:
        print(json.dumps({"envs": [prefix]}, indent=2))
    else:
        print("# conda environments:\n#")
        print("{:<22}*  {}\n".format("", prefix))
    return 0


def _info(prefix, argv):
    python = "{}.{}.{}".format(*sys.version_info[:3])
    facts = {
        "active_prefix": prefix,
        "active_prefix_name": os.environ.get("CONDA_DEFAULT_ENV", prefix),
        "conda_prefix": prefix,
        "conda_version": VERSION,
        "default_prefix": prefix,
        "envs": [prefix],
        "platform": "linux-64",
        "python_version": python,
        "root_prefix": prefix,
        "root_writable": False,
        "sys.prefix": sys.prefix,
    }
    if "--json" in argv:
        print(json.dumps(facts, indent=2, sort_keys=True))
        return 0
    print("")
    for name in sorted(facts):
        value = facts[name]
        print("{:>22} : {}".format(name, ", ".join(value) if isinstance(value, list) else value))
    return 0
