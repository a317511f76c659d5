// Package rig builds systems out of the real programs: NATS servers and roles as
// processes, on loopback or in network namespaces, on plain directories or on
// disks of their own, and breaks them. It is for tests of what only a machine can
// do to programs.
//
// Everything that a rig starts it stops, by its process id, when the test ends,
// failed or not: processes, mounts, loop devices, namespaces. What a test binary
// that was killed has left behind is removed by the next one that uses it.
package rig
