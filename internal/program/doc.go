// Package program is about the file of the program that a host runs: it takes
// another one in and looks whether that is one that could run here, puts it in
// the place of the present one, which is kept, and has the process become it.
//
// The files stand beside each other, so that an exchange is a rename: NAME is
// what is run, NAME.next was taken in, NAME.previous is what NAME was before,
// and NAME.older what was that, until it is known that NAME starts.
package program
