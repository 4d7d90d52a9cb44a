package rpc

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth bounds the nesting of a message; statements nest a few levels, nothing else does.
const maxDepth = 64

// The codecs differ from connect's own in one thing: what the schema does not know is refused, because a client that sends
// it expects something that this daemon would not do.

// jsonCodec reads protobuf JSON strictly and writes the schema's own field names, zero values included. protojson itself
// refuses duplicate fields, trailing data and invalid UTF-8.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a message of the schema", v)
	}
	return MarshalJSON(m)
}

func (jsonCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a message of the schema", v)
	}
	if len(b) == 0 {
		return errors.New("empty body: want a JSON object, {} at least")
	}
	return protojson.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(b, m)
}

// MarshalJSON writes a message as the interface's JSON does: the schema's field names, zero values included.
func MarshalJSON(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
}

// protoCodec reads binary protobuf strictly.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (protoCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a message of the schema", v)
	}
	return proto.Marshal(m)
}

func (protoCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a message of the schema", v)
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(b, m); err != nil {
		return err
	}
	return refuseUnknown(m.ProtoReflect())
}

// refuseUnknown walks a decoded message for fields that the schema does not have. Depth is bounded by maxDepth.
func refuseUnknown(m protoreflect.Message) (err error) {
	if len(m.GetUnknown()) > 0 {
		return fmt.Errorf("%s: the request has a field that this daemon does not know", m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = refuseUnknown(v.Message())
				return err == nil
			})
		case f.IsList() && f.Message() != nil:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = refuseUnknown(v.List().Get(i).Message())
			}
		case !f.IsMap() && f.Message() != nil:
			err = refuseUnknown(v.Message())
		}
		return err == nil
	})
	return err
}
