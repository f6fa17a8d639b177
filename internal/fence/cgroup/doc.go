// Package cgroup is the watchdog of a real host: a small process of its own
// that holds the deadline and, when nobody has petted it in time, pauses or
// kills this host's machines, through their control groups where there are
// any and by signals to their processes in any case. It goes on when the
// agent hangs, is stopped or is killed, and a later agent finds it again.
//
// Agent and watchdog talk over a unix socket, one line each way, in ASCII:
//
//	pet NANOSECONDS    arm, or move the deadline to that much from now
//	disarm             end the watch
//	ok                 done
//	fired              done, but the watchdog had acted since the last pet
//	error TEXT         not understood
package cgroup
