<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Values as JSON, so that other languages read them, and so that a value that PHP reads and writes
 * back means the same: 1.0 stays a float, {} stays an object, and an integer that PHP cannot hold
 * is an error.
 *
 * @internal
 */
final class Json
{
    /** Throws Problem::Invalid for what JSON cannot hold, such as a text that is not UTF-8. */
    public static function encode(mixed $value, string $name): string
    {
        // json_encode writes floats with this setting, which may cut them off.
        $precision = \ini_set('serialize_precision', '-1');
        try {
            return \json_encode(
                $value,
                JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE,
            );
        } catch (\JsonException $e) {
            throw new SessionException(Problem::Invalid, "field \"$name\" does not encode: {$e->getMessage()}", $e);
        } finally {
            if ($precision !== false) {
                \ini_set('serialize_precision', $precision);
            }
        }
    }

    /**
     * Objects become arrays. An object that would be written back as a list, {} or {"0": …},
     * becomes an ArrayObject, which reads like an array and is written back as an object.
     *
     * Throws Problem::Decode for what PHP cannot hold.
     */
    public static function decode(string $text, string $name): mixed
    {
        $zero = '';
        $value = \json_decode($text);
        if (\json_last_error() === JSON_ERROR_INVALID_PROPERTY_NAME) {
            // A name that begins with a zero byte: PHP has none such in objects, but in arrays.
            $zero = 'zero' . \bin2hex(\random_bytes(16));
            $value = \json_decode((string) \preg_replace('/(?<!\\\\)((?:\\\\\\\\)*+)\\\\u0000/', "\$1$zero", $text));
        }
        if (\json_last_error() !== JSON_ERROR_NONE) {
            throw new SessionException(Problem::Decode, "field \"$name\": " . \json_last_error_msg());
        }
        if (\preg_match('/\d{19}|\d[eE]/', $text) === 1 && self::exceeds($text)) {
            throw new SessionException(Problem::Decode, "field \"$name\" has a number that PHP cannot hold");
        }
        return \is_array($value) || \is_object($value) ? self::arrays($value, $zero) : $value;
    }

    private static function arrays(mixed $value, string $zero): mixed
    {
        if ($zero !== '' && \is_string($value)) {
            return \str_replace($zero, "\0", $value);
        }
        if (\is_object($value)) {
            $members = [];
            foreach ((array) $value as $name => $member) {
                $members[$zero === '' ? $name : \str_replace($zero, "\0", (string) $name)] = self::arrays($member, $zero);
            }
            return \array_is_list($members) ? new \ArrayObject($members) : $members;
        }
        return \is_array($value) ? \array_map(fn (mixed $v): mixed => self::arrays($v, $zero), $value) : $value;
    }

    /** Reports whether the text has an integer beyond 64 bits, or a float that is too large. */
    private static function exceeds(string $text): bool
    {
        $noStrings = \preg_replace('/"(?:[^"\\\\]++|\\\\.)*+"/s', '', $text);
        if ($noStrings === null) {
            return true;
        }
        \preg_match_all('/-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/', $noStrings, $numbers);
        foreach ($numbers[0] as $number) {
            if (\strpbrk($number, '.eE') !== false) {
                if (\is_infinite((float) $number)) {
                    return true;
                }
            } elseif ($number !== (string) (int) $number && $number !== '-0') {
                return true;
            }
        }
        return false;
    }
}
