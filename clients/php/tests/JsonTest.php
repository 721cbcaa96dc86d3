<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Json;
use Coatcheck\Session\Problem;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Text;
use PHPUnit\Framework\TestCase;

/** What PHP makes of JSON, of base64 and of integers. */
final class JsonTest extends TestCase
{
    /** @dataProvider texts */
    public function testTextComesBackAsItWas(string $text): void
    {
        self::assertSame($text, Json::encode(Json::decode($text, 'f'), 'f'));
    }

    public static function texts(): iterable
    {
        foreach ([
            'null', 'true', '0', '-1', '1.0', '-0.0', '0.1', '1.0e+25', '9223372036854775807', '-9223372036854775808', '""', '"1"', '"1.0"', '"é"',
            '"/"', '[]', '{}', '[[]]', '[{}]', '{"a":{}}', '{"a":[]}', '{"0":"a"}', '{"0":"a","1":"b"}', '["a","b"]', '{"1":"a"}', '{"":1}',
            '{"a":{"0":[{}]}}', '{"\u0000a":1,"b":{}}', '"\u0000"', '{"b":1,"a":2}', '"12345678901234567890"', '{"12345678901234567890":1}',
        ] as $text) {
            yield $text => [$text];
        }
    }

    /** @dataProvider unreadable */
    public function testValueThatPhpCannotHoldIsAnError(string $text): void
    {
        try {
            Json::decode($text, 'f');
            self::fail('it was read');
        } catch (SessionException $e) {
            self::assertSame(Problem::Decode, $e->problem);
        }
    }

    public static function unreadable(): iterable
    {
        foreach ([
            '9223372036854775808', '-9223372036854775809', '[18446744073709551616]', '{"a":9223372036854775808}', '1e400', '[-1e400]', '"\ud800"', '"\udc00x"',
            "\"\xff\"", '', '{', '[1,]', "'a'", 'nan', '01', 'TRUE ,', str_repeat('[', 600) . str_repeat(']', 600), '"a" "b"', '~1abc',
        ] as $text) {
            yield substr($text, 0, 30) => [$text];
        }
    }

    /** @dataProvider unwritable */
    public function testValueThatJsonCannotHoldIsAnError(mixed $value): void
    {
        try {
            Json::encode($value, 'f');
            self::fail('it was written');
        } catch (SessionException $e) {
            self::assertSame(Problem::Invalid, $e->problem);
        }
    }

    public static function unwritable(): iterable
    {
        $loop = [];
        $loop['loop'] = &$loop;
        yield from ['not UTF-8' => ["\xff"], 'key not UTF-8' => [["\xff" => 1]], 'NAN' => [NAN], 'INF' => [[INF]], 'loop' => [$loop], 'stream' => [STDIN]];
    }

    public function testArrayObjectReadsLikeAnArray(): void
    {
        $o = Json::decode('{"0":"a"}', 'f');
        self::assertInstanceOf(\ArrayObject::class, $o);
        self::assertSame('a', $o[0]);
        $o['x'] = 1;
        self::assertSame('{"0":"a","x":1}', Json::encode($o, 'f'));
    }

    public function testSerializePrecisionDoesNotMatterAndIsRestored(): void
    {
        $before = ini_set('serialize_precision', '3');
        try {
            self::assertSame('0.123456789', Json::encode(0.123456789, 'f'));
            self::assertSame('3', ini_get('serialize_precision'));
        } finally {
            ini_set('serialize_precision', $before);
        }
    }

    public function testBase64IsStrict(): void
    {
        self::assertSame('a', Text::decode('YQ'));
        foreach (['YR', 'YQ==', 'YQ=', 'Y', "YQ\n", ' YQ', 'Y+', '_-/', 'YQA B'] as $text) {
            self::assertNull(Text::decode($text), $text);
        }
        self::assertFalse(Text::isHash(str_repeat('A', 22) . "\n"));
        self::assertFalse(Text::isHash(str_repeat('A', 21) . 'B'));
    }

    public function testNumbersAreStrict(): void
    {
        self::assertSame(255, Text::number('0000000000ff'));
        foreach (['0000000000FF', ' 000000000ff', '0x00000000ff', '+0000000000f', "0000000000f\n", '0000000000f', 'ffffffffffff', '-00000000001'] as $text) {
            self::assertNull(Text::number($text), $text);
        }
        foreach (['1', '0', '-1', '9223372036854775807', '-9223372036854775808'] as $text) {
            self::assertSame($text, (string) Text::integer($text));
        }
        foreach (['', '01', '+1', '1.0', '1e3', ' 1', "1\n", '-0', '9223372036854775808', '0x1', '"1"', 'true'] as $text) {
            self::assertNull(Text::integer($text), $text);
        }
    }
}
