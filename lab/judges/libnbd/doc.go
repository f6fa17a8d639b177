// Libnbd is a client on the NBD project's own library that knows what each
// block of a volume may hold (package expect), and checks it: up to 16
// requests at once, FUA, zeroes, trims, block status, refusals. It works at one
// host until that breaks, then at another, until it is told to stop; then it
// reads everything once more and prints what it did. If something is wrong it
// says what, and its exit status is 1.
//
// It is built with -tags libnbd, a C compiler and libnbd's headers; `make
// judges` does that, and the judges run it. Nothing else in the module needs C.
package main
