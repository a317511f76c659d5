// Package machine does to real servers and roles what machines do: cuts their
// power, fills their disks, parts their networks, flips a bit, sets their clocks
// wrong, delays and drops their connections. Each scenario runs load, injects,
// heals, waits for quiescence, runs `hierarchy verify --quiescent` and compares the
// clients' own book of acknowledgements with the system. It prints a line for people
// and a line of JSON; docs/reliability.md has them as a table.
//
//	make machine            everything, as often as the sheet says; needs root
//	make machine-short      six faults once, within two minutes
//
// What cannot be shown on a machine is skipped with a loud line that says what is
// missing. There is nothing to import here; the package consists of tests.
package machine
