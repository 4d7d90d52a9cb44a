package rpc

import (
	"errors"

	"connectrpc.com/connect"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// Error makes the error that a handler returns. code is a stable snake_case word for programs, cc its class for the
// protocols, message says what was seen and what was wanted, next what to do, money what state the money is in (empty when
// none was concerned).
func Error(code string, cc connect.Code, message, next, money string) error {
	e := connect.NewError(cc, errors.New(message))
	attach(e, &chandv1.ErrorDetail{Code: code, Message: message, Next: next, Money: money})
	return e
}

func attach(e *connect.Error, d *chandv1.ErrorDetail) {
	if a, err := connect.NewErrorDetail(d); err == nil { // fails only for invalid UTF-8
		e.AddDetail(a)
	}
}

// Detail returns what an error of this interface says. It is never nil for a non-nil error: errors of other origin get
// their class as code.
func Detail(err error) *chandv1.ErrorDetail {
	if err == nil {
		return nil
	}
	if d := ownDetail(err); d != nil {
		return d
	}
	message, code := err.Error(), connect.CodeOf(err)
	if e := new(connect.Error); errors.As(err, &e) {
		message = e.Message()
	}
	return &chandv1.ErrorDetail{Code: code.String(), Message: message, Next: nextFor(code)}
}

func ownDetail(err error) *chandv1.ErrorDetail {
	e := new(connect.Error)
	if !errors.As(err, &e) {
		return nil
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if own, ok := v.(*chandv1.ErrorDetail); ok {
				return own
			}
		}
	}
	return nil
}

// nextFor is the advice for errors that brought none of their own.
func nextFor(code connect.Code) string {
	switch code {
	case connect.CodeInvalidArgument:
		return "correct the request"
	case connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return "ask how it ended before you try again"
	case connect.CodeUnauthenticated:
		return "send a macaroon of this daemon: its hex in `Authorization: Bearer`"
	case connect.CodeResourceExhausted:
		return "send less, or later"
	case connect.CodeUnimplemented:
		return "compare the versions of client and daemon"
	case connect.CodeUnavailable:
		return "try again"
	}
	return "see the daemon's log"
}

// withDetail makes every error that leaves the server carry an ErrorDetail.
func withDetail(err error) error {
	if err == nil || ownDetail(err) != nil {
		return err
	}
	e := new(connect.Error)
	if !errors.As(err, &e) {
		e = connect.NewError(connect.CodeOf(err), err) // CodeOf knows the context's errors
	}
	d := Detail(e)
	if d.Code == connect.CodeUnknown.String() {
		d.Code = "internal"
	}
	attach(e, d)
	return e
}
