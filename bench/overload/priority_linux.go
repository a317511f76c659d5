package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// lowest is the last priority that the scheduler knows.
const lowest = 19

// standBack has this process get what the others on the machine leave of the
// processors: each of its threads, and those that they will start. Children that it
// has go on as they began.
func standBack() error {
	for stood := map[string]bool{}; ; { // until no thread has begun meanwhile
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		more := false
		for _, t := range threads {
			if stood[t.Name()] {
				continue
			}
			more, stood[t.Name()] = true, true
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, lowest); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err // of a thread that is still there
			}
		}
		if !more {
			return nil
		}
	}
}
