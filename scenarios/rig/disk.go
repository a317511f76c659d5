package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a file system of its own.
type Disk struct {
	t    *testing.T
	Path string // where it is mounted
	args []string
}

// fsShutdown is FS_IOC_SHUTDOWN of linux/fs.h: the file system takes no more writes,
// and with noLogFlush what it has not written yet, its own journal included, is lost.
const (
	fsShutdown = 0x8004587d
	noLogFlush = 2
)

// NewDisk makes an ext4 file system in a file, or skips the test where it cannot.
func NewDisk(t *testing.T, megabytes int) *Disk {
	t.Helper()
	NeedRoot(t, "mkfs.ext4", "mount", "umount")
	d := place(t)
	image := d.Path + ".img"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, int64(megabytes)<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := command("mkfs.ext4", "-q", "-F", image); err != nil {
		Skip(t, "needs mkfs.ext4: %v", err)
	}
	d.args = []string{"mount", "-o", "loop", image, d.Path}
	if _, err := command(d.args...); err != nil {
		Skip(t, "needs loop devices and ext4: %v", err)
	}
	return d
}

// NewMemoryDisk makes a small file system in memory, or skips the test where it
// cannot.
func NewMemoryDisk(t *testing.T, megabytes int) *Disk {
	t.Helper()
	NeedRoot(t, "mount", "umount")
	d := place(t)
	d.args = []string{"mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", megabytes), "tmpfs", d.Path}
	if _, err := command(d.args...); err != nil {
		Skip(t, "needs tmpfs: %v", err)
	}
	return d
}

func place(t *testing.T) *Disk {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%sdisk-%d-", mark, os.Getpid())) //nolint:usetesting // sweep finds it by its name
	if err != nil {
		t.Fatal(err)
	}
	d := &Disk{t: t, Path: filepath.Join(dir, "disk")}
	if err := os.Mkdir(d.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := command("umount", d.Path); err != nil {
			_, _ = command("umount", "-l", d.Path)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return d
}

// CutPower makes the disk forget what was not synced, as a power cut does. Nobody
// may use it any more. Call Remount to have it back.
func (d *Disk) CutPower() {
	d.t.Helper()
	f, err := os.Open(d.Path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if err := unix.IoctlSetPointerInt(int(f.Fd()), fsShutdown, noLogFlush); err != nil {
		Skip(d.t, "needs FS_IOC_SHUTDOWN: %v", err)
	}
}

// Remount takes the disk out and puts it back in: what comes back is what a machine
// finds when it starts.
func (d *Disk) Remount() {
	d.t.Helper()
	for _, argv := range [][]string{{"umount", d.Path}, d.args} {
		if _, err := command(argv...); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Fill writes until there is no room left.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.Path, "ballast"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is only there to be in the way
	for _, block := range [][]byte{make([]byte, 1<<20), make([]byte, 4<<10), make([]byte, 1)} {
		for err = nil; err == nil; _, err = f.Write(block) {
		}
		if !errors.Is(err, unix.ENOSPC) {
			d.t.Fatal(err)
		}
	}
}

// Free makes room again.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.Path, "ballast")); err != nil {
		d.t.Fatal(err)
	}
}
