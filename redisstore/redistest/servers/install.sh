#!/usr/bin/env bash
#
# install.sh [NAME...]: installs servers for tests that the system does not have, in a folder of
# their own.
#
# NAME is redis-8.0 or valkey-8.1. Default: both. The script unpacks Debian 13's packages and their
# libraries, and runs the servers with the unpacked dynamic loader. It does not change the system's
# packages and does not need root.
#
#   Result:  FOLDER/NAME/bin/redis-server or valkey-server, with the server's usual arguments.
#   FOLDER:  $COATCHECK_SERVERS, else ${XDG_CACHE_HOME:-$HOME/.cache}/coatcheck/servers
#   Mirror:  $COATCHECK_DEBIAN_MIRROR, else the mirror that apt is configured with.
#
# A server that is already installed is not changed. The script always verifies packages with
# Debian's archive keys.
#
# Exit status: 0 if all servers are installed, 1 if one is not (the message says why), 2 for wrong
# usage.

set -euo pipefail

readonly suite=trixie
readonly folder=${COATCHECK_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/coatcheck/servers}

say() { printf 'install.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# present NAME: succeeds if the server runs and has the version in its name.
present() {
	local bin=$folder/$1/bin/${1%-*}-server
	[[ -x $bin && $("$bin" --version 2>/dev/null) == *"v=${1#*-}."* ]]
}

# keyring: prints the path of a keyring with Debian 13's keys. If the system's keyring is older, it
# downloads this release's newest keyring to $work. apt verifies that package with the system's
# keys.
keyring() {
	local dir=/usr/share/keyrings
	if ! compgen -G "$dir/debian-archive-$suite-stable.*" >/dev/null; then
		(cd "$work" && apt-get -qq download debian-archive-keyring && dpkg-deb -x debian-archive-keyring_*.deb keyring) >&2 ||
			die "found no archive keys of Debian 13: apt-get update && apt-get install debian-archive-keyring"
		dir=$work/keyring/usr/share/keyrings
		compgen -G "$dir/debian-archive-$suite-stable.*" >/dev/null ||
			die "debian-archive-keyring has no keys of Debian 13: apt-get update, then run this script again"
	fi
	compgen -G "$dir/debian-archive-keyring.[gp][pg][gp]" | head -n 1
}

# mirrors: prints "URI SUITE" for Debian 13's archive, and for its security updates if configured.
mirrors() {
	if [[ -n ${COATCHECK_DEBIAN_MIRROR:-} ]]; then
		echo "$COATCHECK_DEBIAN_MIRROR $suite"
		return
	fi
	local codename
	# shellcheck disable=SC1091 # a file of the system
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v suite=$suite -v release="^($codename|$suite|oldstable|stable|testing|unstable|sid)" '
			$3 == "main" && $2 ~ release "$"           { print $1, suite }
			$3 == "main" && $2 ~ release "-security$" { print $1, suite "-security" }' |
		sort -u
}

# configure: writes a configuration of apt to $work that knows only Debian 13 and shares no state
# with the system's. Transport, proxies and credentials stay as configured. The system's hooks after
# an update do not run.
configure() {
	local keys sources
	keys=$(keyring)
	sources=$(mirrors)
	[[ -n $sources ]] || die "apt is not configured with a Debian archive: set COATCHECK_DEBIAN_MIRROR to one"
	mkdir -p "$work"/{lists,cache}/partial
	touch "$work/status"
	while read -r uri release; do
		printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nTargets: Packages\nSigned-By: %s\n\n' \
			"$uri" "$release" "$keys"
	done <<<"$sources" >"$work/debian.sources"
	cat >"$work/apt.conf" <<-EOF
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Post-Invoke;
		Dir::Etc::sourcelist "$work/debian.sources";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		Dir::State "$work";
		Dir::State::lists "$work/lists";
		Dir::State::status "$work/status";
		Dir::Cache "$work/cache";
		Dir::Cache::archives "$work/cache";
		Acquire::Languages "none";
		Acquire::Retries "3";
		APT::Install-Recommends "false";
	EOF
	apt-get -qq -c "$work/apt.conf" -o APT::Update::Error-Mode=any update >&2 ||
		die "cannot read the package lists of Debian 13 from: ${sources//$'\n'/, }"
}

# launcher NAME ROOT: writes a command that runs the server with the loader and the libraries in
# ROOT.
launcher() {
	local program=${1%-*} root=$2 loader libs
	loader=$(cd "$root" && compgen -G 'usr/lib*/ld-linux*.so.*' | head -n 1) || die "$1: libc6 has no dynamic loader"
	libs=$(cd "$root" && dirname usr/lib/*/libc.so.6)
	mkdir "$root/bin"
	cat >"$root/bin/$program-server" <<-EOF
		#!/bin/sh
		# Debian's package has one program for all commands. Its name selects the command.
		root=\${0%/*}/..
		exec "\$root/$loader" --inhibit-cache --argv0 $program-server \\
		  --library-path "\$root/$libs" "\$root/usr/bin/$program-check-rdb" "\$@"
	EOF
	chmod 755 "$root/bin/$program-server"
}

# unpack NAME: downloads the package and its dependencies, unpacks what a server needs, and moves it
# into place.
unpack() {
	local program=${1%-*} new
	rm -f "$work"/cache/*.deb
	apt-get -qq -c "$work/apt.conf" --download-only --yes install "$program-tools" >&2 ||
		die "$1: cannot download Debian 13's package $program-tools"
	mkdir -p "$folder"
	new=$(mktemp -d "$folder/.$1.XXXXXX")
	unfinished+=("$new")
	for deb in "$work"/cache/*.deb; do
		dpkg-deb -x "$deb" "$new"
	done
	chmod 755 "$new"
	find "$new" -mindepth 1 -maxdepth 1 ! -name usr -exec rm -rf {} +
	find "$new/usr" -mindepth 1 -maxdepth 1 ! -name 'lib*' ! -name bin -exec rm -rf {} +
	launcher "$1" "$new"
	present "$1" || rm -rf "${folder:?}/$1" # another run may have installed it
	mv -T "$new" "$folder/$1" 2>/dev/null || present "$1" || die "$1: cannot write to $folder"
	present "$1" || die "$1: was unpacked into $folder/$1, but is not $program ${1#*-} or does not run:" \
		"$("$folder/$1/bin/$program-server" --version 2>&1)"
	say "$1: installed in $folder/$1"
}

main() {
	local missing=()
	for name in "$@"; do
		case $name in
		redis-8.0 | valkey-8.1) present "$name" || missing+=("$name") ;;
		*) say "no such server: $name (want redis-8.0 or valkey-8.1)"; exit 2 ;;
		esac
	done
	((${#missing[@]})) || return 0
	for tool in apt-get dpkg-deb; do
		command -v "$tool" >/dev/null || die "needs $tool: run this script on Debian or a derived system"
	done
	work=$(mktemp -d)
	unfinished=("$work")
	trap 'rm -rf "${unfinished[@]}"' EXIT
	chmod 755 "$work" # apt downloads as another user
	configure
	for name in "${missing[@]}"; do unpack "$name"; done
}

(($#)) || set -- redis-8.0 valkey-8.1
main "$@"
