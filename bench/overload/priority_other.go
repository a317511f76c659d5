//go:build !linux

package main

// standBack does nothing where threads have no priorities of their own.
func standBack() error { return nil }
