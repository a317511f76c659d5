package op

import (
	"errors"
	"fmt"
)

// ErrorType is the value of "type" in every error body on the wire.
const ErrorType = "ops.v1.error"

// Error is a mistake in a request, told with a stable code and a hint how to
// mend it. It is the body of every error answer (contract §2).
type Error struct {
	Type    string `json:"type"`
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// RetryAfterMS is when it is worth trying again, in milliseconds.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Codes of mistakes in a request. They are public and never reused.
const (
	CodeBadJSON       = "OPS-1001"
	CodeUnknownField  = "OPS-1002"
	CodeWrongType     = "OPS-1003"
	CodeBadID         = "OPS-1004"
	CodeTooLarge      = "OPS-1005"
	CodeTooDeep       = "OPS-1006"
	CodeDuplicateKey  = "OPS-1007"
	CodeUnknownType   = "OPS-1008"
	CodeTargetDiffers = "OPS-1009"
	CodeMissingField  = "OPS-1010"
	CodeBadPriority   = "OPS-1011"
	CodeBadUTF8       = "OPS-1012"
	CodeStringTooLong = "OPS-1013"
	CodeBadParams     = "OPS-1014"
	CodeBadValue      = "OPS-1015"
	CodeUnknownSchema = "OPS-1016"
	CodeBadArray      = "OPS-1017"
	CodeNotFound      = "OPS-1018"
	CodeUnavailable   = "OPS-1019"
	CodeBadSubject    = "OPS-1020"
	CodeOverloaded    = "OPS-1021"
	CodePaused        = "OPS-1022"
	CodeNotAllowed    = "OPS-1023"
	CodeBadPolicy     = "OPS-1024"
)

// ErrorInfo documents one error code.
type ErrorInfo struct {
	Code string
	Text string // what it means
	Hint string // how to mend it
}

var catalogue = []ErrorInfo{
	{CodeBadJSON, "The body is not one JSON object, nor an array of them.", "Check the body with a JSON linter; single quotes, trailing commas and text after the value are the usual causes."},
	{CodeUnknownField, "The body has a field that the schema does not know.", "Data of your own belongs into params or labels; `hierarchy schema` lists the fields."},
	{CodeWrongType, "A field has the wrong JSON type.", "`hierarchy schema` lists the type of every field."},
	{CodeBadID, "An id is not a token of 1 to 64 characters out of A-Z a-z 0-9 _ -.", "Dots, stars, greater-than signs and blanks are refused so that an id can never become a wildcard; hash longer names."},
	{CodeTooLarge, "The body is larger than 32 KiB.", "Put large values elsewhere and submit a reference."},
	{CodeTooDeep, "The JSON is nested deeper than 16 levels.", "Flatten the value."},
	{CodeDuplicateKey, "A JSON object has the same key twice.", "Parsers disagree about which one counts, so neither does; send it once."},
	{CodeUnknownType, "No operation type of that name is registered.", "`hierarchy schema` lists the registered types."},
	{CodeTargetDiffers, "The subject names another target than the body.", "Leave target_entity_id out of the body, or make both agree."},
	{CodeMissingField, "A required field is missing.", "op_type is always required; the target comes from the subject or from target_entity_id."},
	{CodeBadPriority, "The priority is neither 1 to 10 nor a known name.", "BACKGROUND, LOW, NORMAL, HIGH and CRITICAL are 1, 2, 5, 8 and 10."},
	{CodeBadUTF8, "The body is not valid UTF-8.", "Encode text as UTF-8; put binary data into base64."},
	{CodeStringTooLong, "A string is longer than 4 KiB.", "Put large values elsewhere and submit a reference."},
	{CodeBadParams, "params do not fit the schema of the operation type.", "`hierarchy schema TYPE` prints the schema."},
	{CodeBadValue, "A value is outside its range.", "The message names the range."},
	{CodeUnknownSchema, "The body names a schema version that this release does not know.", "Upgrade the servers, or send ops.v1.operation."},
	{CodeBadArray, "An array must hold 1 to 256 operations on one target, each with an id of its own.", "Submit operations on different targets one by one, or with `hierarchy submit -f`."},
	{CodeNotFound, "There is no such operation or entity.", "Status records age out; the journal keeps everything: `hierarchy export journal`."},
	{CodeUnavailable, "The log could not be reached, so nothing is known about the outcome.", "Send the same op_id again: it is the same submission."},
	{CodeBadSubject, "The subject is not one that Hierarchy knows.", "Submit to ops.submit.<target>."},
	{CodeOverloaded, "There is no room for another operation: the log, the partition or the target has as many as it may hold. Nothing was stored.", "Send the same op_id again after retry_after_ms."},
	{CodePaused, "The target or the operation type is paused by an operator.", "`hierarchy config get` shows what is paused."},
	{CodeNotAllowed, "The policy does not allow this to this submitter or this type.", "`hierarchy config get` shows the ranges; the message names the one in force."},
	{CodeBadPolicy, "The policy is not valid, so the one in force stays.", "The message names the field; `hierarchy schema policy` describes all of them."},
}

// Errors returns the catalogue in the order of the codes. The slice is the
// caller's.
func Errors() []ErrorInfo { return append([]ErrorInfo(nil), catalogue...) }

// addressHints stand in for the catalogue's where the field is "address": that is
// about an entity, and about no operation.
var addressHints = map[string]string{
	CodeBadValue: "An address is @ENTITY or @ENTITY~VERSION, and either may be followed by .FIELD; versions count from 1.",
	CodeNotFound: "`hierarchy export entities` lists the entities, `hierarchy history ENTITY` its versions, and `hierarchy get @ENTITY` its fields.",
}

// Errorf builds an [*Error] with the catalogue's hint for code. field may be
// empty.
func Errorf(code, field, format string, args ...any) *Error {
	e := &Error{Type: ErrorType, Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
	for i := range catalogue {
		if catalogue[i].Code == code {
			e.Hint = catalogue[i].Hint
		}
	}
	if hint := addressHints[code]; hint != "" && field == "address" {
		e.Hint = hint
	}
	return e
}

// AsError returns the [*Error] in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
