#!/bin/bash
# Build a container base image from Debian packages, for machines that reach the
# package archive but no image registry. Maintainer scripts do not run.
# usage: make-base-image.sh IMAGE PACKAGE-LIST-FILE...
set -euo pipefail

image=$1
shift
# Every list is one package a line; # starts a comment.
mapfile -t packages < <(cat "$@" | sed 's/#.*//' | tr -d ' \t' | grep -v '^$' | sort -u)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs" "$work/root"
(cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}")

root=$work/root
# Merged /usr, as Debian 12 has it, before anything is unpacked into it.
mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
for deb in "$work"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" -xf - --keep-directory-symlink \
    --exclude './usr/share/doc/*' --exclude './usr/share/man/*' \
    --exclude './usr/share/locale/*' --exclude './usr/share/lintian/*'
done

cd "$root"
mkdir -p etc/ssl/certs tmp root run proc sys dev home var/tmp
chmod 1777 tmp var/tmp
rm -rf var/run var/lock
ln -s /run var/run
ln -s /run/lock var/lock
[ -e usr/bin/sh ] || ln -s dash usr/bin/sh
[ -e usr/bin/awk ] || [ ! -e usr/bin/mawk ] || ln -s mawk usr/bin/awk
[ -e usr/bin/python ] || [ ! -e usr/bin/python3 ] || ln -s python3 usr/bin/python
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
if compgen -G 'usr/share/ca-certificates/mozilla/*.crt' > /dev/null; then
  cat usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt
fi
printf 'hosts: files dns\n' > etc/nsswitch.conf
ldconfig -r .
tar -c . | docker import \
  -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  -c 'ENV LANG=C.UTF-8' -c 'CMD ["/bin/sh"]' - "$image"
