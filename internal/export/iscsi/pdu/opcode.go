package pdu

// Opcode is the low six bits of a header's first byte (RFC 7143 §11.2.1.2).
type Opcode uint8

// What initiators send.
const (
	NopOut       Opcode = 0x00
	Command      Opcode = 0x01
	TaskRequest  Opcode = 0x02
	LoginRequest Opcode = 0x03
	TextRequest  Opcode = 0x04
	DataOut      Opcode = 0x05
	LogoutReq    Opcode = 0x06
	SnackRequest Opcode = 0x10
)

// What targets send.
const (
	NopIn         Opcode = 0x20
	Response      Opcode = 0x21
	TaskResponse  Opcode = 0x22
	LoginResponse Opcode = 0x23
	TextResponse  Opcode = 0x24
	DataIn        Opcode = 0x25
	LogoutResp    Opcode = 0x26
	Ready         Opcode = 0x31 // R2T
	AsyncMessage  Opcode = 0x32
	Reject        Opcode = 0x3f
)

// Flags of the first byte.
const (
	Immediate = 0x40
	opMask    = 0x3f
)

// Flags of the second byte; what they mean depends on the opcode.
const (
	Final    = 0x80 // the last PDU of a sequence
	Continue = 0x40 // text and login: more of the keys follow
	Transit  = 0x80 // login: ready for the next stage

	CommandRead  = 0x40
	CommandWrite = 0x20
	AttrMask     = 0x07

	Acknowledge = 0x40 // Data-In: A
	Overflow    = 0x04 // Data-In and response: residual overflow
	Underflow   = 0x02 // Data-In and response: residual underflow
	HasStatus   = 0x01 // Data-In: the status is in this PDU
)

// Task attributes (RFC 7143 §11.3.1).
const (
	Untagged = 0
	Simple   = 1
	Ordered  = 2
	Head     = 3
	ACA      = 4
)

// NoTag is the reserved value of task and transfer tags.
const NoTag = 0xffffffff

// Login stages.
const (
	StageSecurity    = 0
	StageOperational = 1
	StageFull        = 3
)

// Task management functions (§11.5.1).
const (
	AbortTask    = 1
	AbortTaskSet = 2
	ClearACA     = 3
	ClearTaskSet = 4
	UnitReset    = 5
	WarmReset    = 6
	ColdReset    = 7
	Reassign     = 8
)

// Task management responses (§11.6.1).
const (
	FunctionComplete     = 0
	NoSuchTask           = 1
	NoSuchUnit           = 2
	StillAllegiant       = 3
	NoReassignment       = 4
	FunctionNotSupported = 5
	FunctionNotAllowed   = 6
	FunctionRejected     = 255
)

// Reasons of a reject (§11.17.1).
const (
	ReasonDigest       = 0x02
	ReasonSNACK        = 0x03
	ReasonProtocol     = 0x04
	ReasonUnsupported  = 0x05
	ReasonTooManyImm   = 0x06
	ReasonInProgress   = 0x07
	ReasonInvalidField = 0x09
)

// Events of asynchronous messages (§11.9.1).
const (
	EventSCSI           = 0
	EventLogout         = 1
	EventDropConnection = 2
	EventDropSession    = 3
	EventRenegotiate    = 4
)

// Login status, class and detail in one number (§11.13.5).
const (
	LoginSuccess        = 0x0000
	LoginMoved          = 0x0101
	LoginInitiatorError = 0x0200
	LoginAuthFailed     = 0x0201
	LoginForbidden      = 0x0202
	LoginNotFound       = 0x0203
	LoginRemoved        = 0x0204
	LoginBadVersion     = 0x0205
	LoginTooMany        = 0x0206
	LoginMissing        = 0x0207
	LoginCannotInclude  = 0x0208
	LoginBadType        = 0x0209
	LoginNoSession      = 0x020a
	LoginInvalid        = 0x020b
	LoginTargetError    = 0x0300
	LoginUnavailable    = 0x0301
	LoginNoResources    = 0x0302
)
