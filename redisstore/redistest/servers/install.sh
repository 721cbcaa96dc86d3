#!/usr/bin/env bash
#
# install.sh [NAME...]: puts server versions that the system does not have into a folder of their own, for tests.
#
# NAME is redis-8.0 or valkey-8.1; without one, both. They are Debian 13's builds, unpacked with the libraries that they
# need and run with their own dynamic loader, so the system's packages stay as they are and no root is needed.
#
#   Result:  FOLDER/NAME/bin/redis-server (valkey-server), which takes the arguments that the server takes.
#   FOLDER:  $COATCHECK_SERVERS, else ${XDG_CACHE_HOME:-$HOME/.cache}/coatcheck/servers
#   Mirror:  $COATCHECK_DEBIAN_MIRROR, else the one that apt is configured with here.
#
# A server that is there already is left alone. Packages are verified with Debian's archive keys, never without.
# Exit status: 0 all there, 1 one cannot be had (the message says why), 2 wrong usage.

set -euo pipefail

readonly suite=trixie
readonly folder=${COATCHECK_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/coatcheck/servers}

say() { printf 'install.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# present NAME: does the server start, and is it the version that its name says?
present() {
	local bin=$folder/$1/bin/${1%-*}-server
	[[ -x $bin && $("$bin" --version 2>/dev/null) == *"v=${1#*-}."* ]]
}

# keyring: prints the path of a keyring that knows Debian 13. An older one is replaced, in $work only, by the newest that
# this release of Debian offers: apt checks that package with the keys that the system trusts already.
keyring() {
	local dir=/usr/share/keyrings
	if ! compgen -G "$dir/debian-archive-$suite-stable.*" >/dev/null; then
		(cd "$work" && apt-get -qq download debian-archive-keyring && dpkg-deb -x debian-archive-keyring_*.deb keyring) >&2 ||
			die "no archive keys of Debian 13: apt-get update && apt-get install debian-archive-keyring"
		dir=$work/keyring/usr/share/keyrings
		compgen -G "$dir/debian-archive-$suite-stable.*" >/dev/null ||
			die "debian-archive-keyring is too old to know Debian 13: apt-get update, then run this again"
	fi
	compgen -G "$dir/debian-archive-keyring.[gp][pg][gp]" | head -n 1
}

# mirrors: prints "URI SUITE" of Debian 13's archive, and of its security updates where they are configured.
mirrors() {
	if [[ -n ${COATCHECK_DEBIAN_MIRROR:-} ]]; then
		echo "$COATCHECK_DEBIAN_MIRROR $suite"
		return
	fi
	local codename
	# shellcheck disable=SC1091 # of the system
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # apt fills these in
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v suite=$suite -v release="^($codename|$suite|oldstable|stable|testing|unstable|sid)" '
			$3 == "main" && $2 ~ release "$"           { print $1, suite }
			$3 == "main" && $2 ~ release "-security$" { print $1, suite "-security" }' |
		sort -u
}

# configure: makes in $work a configuration of apt that knows Debian 13 only and shares no state with the system's.
# Transport, proxies and credentials stay as they are configured; what the system runs after an update is left out.
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
		die "the package lists of Debian 13 cannot be read from: ${sources//$'\n'/, }"
}

# launcher NAME ROOT: writes the command that runs the server with the loader and the libraries in ROOT.
launcher() {
	local program=${1%-*} root=$2 loader libs
	loader=$(cd "$root" && compgen -G 'usr/lib*/ld-linux*.so.*' | head -n 1) || die "$1: libc6 has no dynamic loader"
	libs=$(cd "$root" && dirname usr/lib/*/libc.so.6)
	mkdir "$root/bin"
	cat >"$root/bin/$program-server" <<-EOF
		#!/bin/sh
		# Debian's package has one program for all of its commands: the name that it is called by decides.
		root=\${0%/*}/..
		exec "\$root/$loader" --inhibit-cache --argv0 $program-server \\
		  --library-path "\$root/$libs" "\$root/usr/bin/$program-check-rdb" "\$@"
	EOF
	chmod 755 "$root/bin/$program-server"
}

# unpack NAME: downloads the package and all that it depends on, unpacks what a server needs, and moves it into place.
unpack() {
	local program=${1%-*} new
	rm -f "$work"/cache/*.deb
	apt-get -qq -c "$work/apt.conf" --download-only --yes install "$program-tools" >&2 ||
		die "$1: Debian 13's package $program-tools cannot be had"
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
	present "$1" || rm -rf "${folder:?}/$1" # another run may have been quicker
	mv -T "$new" "$folder/$1" 2>/dev/null || present "$1" || die "$1: $folder cannot be written"
	present "$1" || die "$1: was unpacked into $folder/$1, but is not $program ${1#*-} or does not run:" \
		"$("$folder/$1/bin/$program-server" --version 2>&1)"
	say "$1: installed in $folder/$1"
}

main() {
	local missing=()
	for name in "$@"; do
		case $name in
		redis-8.0 | valkey-8.1) present "$name" || missing+=("$name") ;;
		*) say "no such server: $name (redis-8.0 and valkey-8.1 are)"; exit 2 ;;
		esac
	done
	((${#missing[@]})) || return 0
	for tool in apt-get dpkg-deb; do
		command -v "$tool" >/dev/null || die "needs $tool: run it on Debian or a system made from it"
	done
	work=$(mktemp -d)
	unfinished=("$work")
	trap 'rm -rf "${unfinished[@]}"' EXIT
	chmod 755 "$work" # apt downloads as a user of its own
	configure
	for name in "${missing[@]}"; do unpack "$name"; done
}

(($#)) || set -- redis-8.0 valkey-8.1
main "$@"
