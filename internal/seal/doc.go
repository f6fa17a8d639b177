// Package seal turns the blocks of a volume into what is stored of them and
// back: compressed with S2, sealed with AES-256-GCM, both, or as they are
// (STORE §4). It happens at the volume's writer, before a block is hashed and
// before anything leaves its host; replicas see the stored form only and need
// no key. The form is docs/format/seal.md.
//
// A nonce is 32 random bits of the opening and the block's LSN. An LSN names one
// content for ever, so whoever seals must send the same stored bytes again in
// every retry and never seal a second content under one LSN. The salt keeps that
// true where the cluster's records were restored from a backup and an epoch is
// handed out twice.
//
// Nothing here waits or keeps state between blocks; buffers are reused.
package seal
