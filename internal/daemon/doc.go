// Package daemon turns a role into a process: flags and environment, the
// connection to NATS, logging, signals, health over HTTP, and an orderly end. It
// knows nothing about what a role does.
//
// Processes may be started in any order. One that finds no server, or a server
// that has not been set up, says so once and waits. SIGTERM or an interrupt begin
// the drain: /readyz answers 503, the role's context ends, the role finishes or
// hands back what it has, and the process exits with 0. A second signal exits at
// once.
package daemon
