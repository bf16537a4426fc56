# shellcheck shell=bash
# Packages and sources of other Debian releases, by an apt of their own.  Sourced, not run.

# debian_release POSTGRESQL_VERSION: the release with that version, if there is one
debian_release() {
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky ;;
	esac
}

# Where apt gets this machine's own Debian release from
mirror() {
	(
		. /etc/os-release
		apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' \
			"Codename: ${VERSION_CODENAME:-}" 2>/dev/null | head -n 1
	)
}

# apt_settings DIR SUITE URI [deb-src]: an apt.conf with nothing of the system's but its keys
apt_settings() {
	cat >"$1/apt.conf" <<-END
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$1/parts";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "$1/parts";
		Dir::State::lists "$1/lists";
		Dir::State::status "/dev/null";
		Dir::Cache "$1/cache";
		APT::Sandbox::User "$(id -un)";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
	END
	cat >"$1/parts/suite.sources" <<-END
		Types: ${4:-deb}
		URIs: $3
		Suites: $2
		Components: main
		Targets: $([ "${4:-deb}" = deb ] && echo Packages || echo Sources)
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	END
}
