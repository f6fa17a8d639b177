// Package fleet is a simulated cluster behind the real API and web interface
// (`holdfast sim --serve`): to look at what hundreds of hosts look like, to develop
// pages without a lab, and to measure. The records, the planners that watch over
// them, the accounts and the whole surface are the product's own, over a control
// plane in memory. What is missing is the hosts: one task plays what they would
// write into the records, and nothing is stored or started anywhere.
package fleet
