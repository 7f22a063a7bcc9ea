# The recipes of mfs; the continuous integration runs the same and nothing else.
#
#   make            build release binaries, manual pages and completions
#   make demo       a cluster of three nodes on this machine, at work (takes itself down)
#   make test       all tests, with their set-up; at most 40 minutes on two cores
#   make check      what every change must pass: format, lints, documentation, house rules, tests
#   make soak       long runs, by seed, and 200 rounds of coherence: make soak seed=7 minutes=60
#   make stress     real programs that move while they run: make stress seed=7 moves=10; writes docs/STRESS.md
#   make install    to PREFIX (/usr/local), below DESTDIR; make uninstall takes it away and leaves data

PREFIX ?= /usr/local
DESTDIR ?=
# mount(8) looks for mount.TYPE in /sbin only.
HELPERDIR ?= /sbin
# Where a private CRIU is unpacked, if the machine has none that can move jobs.
STATEDIR = /var/lib/mfs
BINDIR = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
UNITDIR = $(PREFIX)/lib/systemd/system
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
MANDIR = $(PREFIX)/share/man
DOCDIR = $(PREFIX)/share/doc/mfs
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d

BUILT = target/release
GENERATED = target/dist
seed ?= 1
minutes ?= 30
moves ?= 10

.PHONY: all demo test check fmt clippy doc tidy soak stress install uninstall clean

all:
	@scripts/preflight build
	scripts/build --release
	@mkdir -p $(GENERATED)/man $(GENERATED)/completions
	$(BUILT)/mfs generate man $(GENERATED)/man
	$(BUILT)/mfs generate completions $(GENERATED)/completions

demo:
	@scripts/preflight demo
	scripts/build --release
	@# Without CRIU the demo shows all but moves.
	@criu=$$(scripts/criu "$(CURDIR)/target/tools/criu" | sed -n 's/^CRIU: //p'); \
	    scripts/as-root env $${criu:+"MFS_CRIU=$$criu"} $(BUILT)/mfs demo

test:
	@scripts/test

check: fmt clippy doc test

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets --features mfs-init/program -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

tidy:
	cargo test --locked -p mfs-tests --test tidy

soak:
	@scripts/preflight test
	@scripts/soak $(seed) $(minutes)

stress:
	@scripts/preflight test
	@scripts/stress --release $(seed) $(moves)

# Installs what `make` built; builds nothing, so that `make && sudo make install` leaves no files of root behind.
install:
	@test -x $(BUILT)/mfs -a -d $(GENERATED)/man || { echo "nothing is built yet: run make first" >&2; exit 1; }
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(HELPERDIR) $(DESTDIR)$(UNITDIR) \
	    $(DESTDIR)$(TMPFILESDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(DOCDIR) \
	    $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	install -m 755 $(BUILT)/mfs $(BUILT)/mfs-fuse $(DESTDIR)$(BINDIR)
	install -m 755 $(BUILT)/mfsd $(BUILT)/mfs-init $(DESTDIR)$(SBINDIR)
	ln -sf $(BINDIR)/mfs-fuse $(DESTDIR)$(HELPERDIR)/mount.mfs
	sed 's,@SBINDIR@,$(SBINDIR),' dist/mfsd.service > $(DESTDIR)$(UNITDIR)/mfsd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/mfsd.service
	install -m 644 dist/mfs.tmpfiles $(DESTDIR)$(TMPFILESDIR)/mfs.conf
	install -m 644 $(GENERATED)/man/*.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 dist/mfsd.8 dist/mount.mfs.8 $(DESTDIR)$(MANDIR)/man8
	install -m 644 $(GENERATED)/completions/mfs.bash $(DESTDIR)$(BASHDIR)/mfs
	install -m 644 $(GENERATED)/completions/_mfs $(DESTDIR)$(ZSHDIR)
	install -m 644 $(GENERATED)/completions/mfs.fish $(DESTDIR)$(FISHDIR)
	install -m 644 README.md CHANGELOG.md fstab.example dist/mfs.mount dist/mfsd.toml docs/*.md $(DESTDIR)$(DOCDIR)
	@test -n "$(DESTDIR)" || scripts/installed add
	@test -n "$(DESTDIR)" || scripts/criu $(STATEDIR)/criu || true # said by the script; jobs are placed, not moved

# Leaves /etc/mfs, /var/lib/mfs (the node's identity) and the fstab line: they are the administrator's.
uninstall:
	@test -n "$(DESTDIR)" || scripts/installed stop $(SBINDIR)/mfsd
	rm -f $(DESTDIR)$(BINDIR)/mfs $(DESTDIR)$(BINDIR)/mfs-fuse $(DESTDIR)$(SBINDIR)/mfsd \
	    $(DESTDIR)$(SBINDIR)/mfs-init $(DESTDIR)$(HELPERDIR)/mount.mfs \
	    $(DESTDIR)$(UNITDIR)/mfsd.service $(DESTDIR)$(TMPFILESDIR)/mfs.conf \
	    $(DESTDIR)$(MANDIR)/man1/mfs.1 $(DESTDIR)$(MANDIR)/man1/mfs-*.1 $(DESTDIR)$(MANDIR)/man8/mfsd.8 \
	    $(DESTDIR)$(MANDIR)/man8/mount.mfs.8 $(DESTDIR)$(BASHDIR)/mfs $(DESTDIR)$(ZSHDIR)/_mfs $(DESTDIR)$(FISHDIR)/mfs.fish
	rm -rf $(DESTDIR)$(DOCDIR)
	@test -n "$(DESTDIR)" || { scripts/installed remove; rm -rf $(STATEDIR)/criu; }
	@echo "left alone: /etc/mfs, /var/lib/mfs and the line of /etc/fstab"

clean:
	cargo clean
