<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Csrf;
use Coatcheck\Session\FormatException;
use Coatcheck\Session\Keys;
use Coatcheck\Session\Principal;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Record;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Text;
use Coatcheck\Session\Token;
use PHPUnit\Framework\TestCase;

/** The vectors of format/vectors that need no server. */
final class VectorsTest extends TestCase
{
    public static function tearDownAfterClass(): void
    {
        Vectors::report();
    }

    private static function keys(array $v): Keys
    {
        return new Keys(isset($v['key']) ? [hex2bin($v['key'])] : []);
    }

    public function testTokens(): void
    {
        foreach (Vectors::all('tokens') as $v) {
            Vectors::ran('tokens');
            $keys = self::keys($v);
            $token = Token::parse($v['token'], $keys);
            self::assertSame($v['valid'], $token instanceof Token, json_encode($v));
            if (!$token instanceof Token) {
                continue;
            }
            self::assertSame($v['selector'], bin2hex($token->selector));
            self::assertSame($v['verifier'], bin2hex($token->verifier));
            self::assertSame($v['generation'] ?? 0, $token->generation);
            self::assertSame($v['bucket'] ?? 0, $token->bucket);
            self::assertSame($v['verifier_hash'], $token->verifierHash());
            self::assertSame($v['handle'], $token->handle());
            if (isset($v['key']) || strlen($v['token']) === 52) {
                self::assertSame($v['token'], $token->text($keys));
            }
        }
    }

    public function testCsrf(): void
    {
        foreach (Vectors::all('csrf') as $v) {
            Vectors::ran('csrf');
            $id = Text::encode(hex2bin($v['id']));
            self::assertSame($v['valid'], Csrf::isValid($id, $v['token']), json_encode($v));
            if ($v['valid']) {
                self::assertSame($v['token'], Csrf::token($id, hex2bin($v['pad'])));
            }
        }
    }

    public function testSealed(): void
    {
        foreach (Vectors::all('sealed') as $v) {
            Vectors::ran('sealed');
            $keys = self::keys($v);
            $name = $v['name'];
            try {
                $plain = $keys->open($v['id'], $name, $v['sealed']);
                self::assertArrayHasKey('plain', $v, json_encode($v));
                self::assertSame($v['plain'], $plain);
                if (isset($v['nonce'])) {
                    self::assertSame($v['sealed'], $keys->seal($v['id'], $name, $plain, hex2bin($v['nonce'])));
                }
                if (isset($v['user'])) {
                    self::assertSame($v['user'], bin2hex(Principal::decode($plain)->user));
                }
            } catch (SessionException $e) {
                self::assertSame(Problem::Sealed, $e->problem);
                self::assertArrayNotHasKey('plain', $v, json_encode($v));
            }
        }
    }

    public function testUsers(): void
    {
        foreach (Vectors::all('users') as $v) {
            Vectors::ran('users');
            $keys = new Keys([], isset($v['key']) ? hex2bin($v['key']) : null);
            $owner = $keys->owner(hex2bin($v['user']));
            self::assertSame($v['owner'], $owner);
            self::assertSame($v['bucket'], bin2hex(substr(Text::decode($owner), 0, 2)));
        }
    }

    public function testRecords(): void
    {
        $vectors = Vectors::all('records');
        foreach ($vectors['records'] as $v) {
            Vectors::ran('records');
            $want = $v['record'];
            $got = Record::decode($v['hash']);
            self::assertSame(
                [$want['secret'], $want['current'], $want['generation'], $want['issued_ms'], $want['unused'], $want['idle_ms'],
                    $want['created_ms'], $want['seen_ms'], $want['deadline_ms'], $want['revision'], $want['size']],
                [$got->id, $got->current, $got->generation, $got->issued, $got->unused, $got->idle,
                    $got->created, $got->seen, $got->deadline, $got->revision, $got->size],
                $v['name'],
            );
            self::assertSame($want['fields'], $got->fields, $v['name']);
            $this->checkUser($want['user'], $got, $v);
        }
        foreach ($vectors['refused'] as $v) {
            Vectors::ran('records refused');
            try {
                Record::decode($v['hash']);
                self::fail("not refused: {$v['name']}");
            } catch (FormatException $e) {
                self::assertNotSame('', $e->wrong);
            }
        }
    }

    private function checkUser(?array $want, Record $got, array $v): void
    {
        self::assertSame($want['owner'] ?? '', $got->owner);
        if ($want === null || Keys::isSealed($got->info)) {
            return;
        }
        $p = Principal::decode($got->info);
        self::assertSame(
            [$want['id'], $want['authenticated_ms'], $want['level'], $want['persistent'], $want['methods'], $want['device'], $want['agent'], $want['address']],
            [Text::encode($p->user), $got->authenticated, $got->level, $got->persistent, $p->methods, $p->device, $p->agent, $p->address],
            $v['name'],
        );
        $flat = Record::infoArguments($p->encode());
        $decoded = '';
        for ($i = 1; $i < count($flat); $i += 2) {
            $decoded .= $flat[$i];
        }
        self::assertEquals($p, Principal::decode($decoded));
    }

    /** This package publishes no events. Its users can open them with these functions of PHP. */
    public function testEvents(): void
    {
        foreach (Vectors::all('events') as $v) {
            Vectors::ran('events');
            $entry = hex2bin($v['entry']);
            $key = isset($v['key']) ? hash_hkdf('sha256', hex2bin($v['key']), 32, 'coatcheck/1 event') : null;
            self::assertSame($v['plain'] ?? null, self::openEvent($entry, $key), json_encode($v));
            if (isset($v['plain'], $v['nonce'])) {
                $nonce = hex2bin($v['nonce']);
                $sealed = openssl_encrypt($v['plain'], 'aes-256-gcm', $key, OPENSSL_RAW_DATA, $nonce, $tag);
                self::assertSame($entry, "\x01" . $nonce . $sealed . $tag);
            }
        }
    }

    private static function openEvent(string $entry, ?string $key): ?string
    {
        $json = $entry;
        if ($key !== null) {
            $sealed = strlen($entry) > 29 && $entry[0] === "\x01";
            $json = $sealed ? openssl_decrypt(
                substr($entry, 13, -16), 'aes-256-gcm', $key, OPENSSL_RAW_DATA, substr($entry, 1, 12), substr($entry, -16),
            ) : false;
        }
        $event = $json === false ? null : json_decode($json, true);
        return is_string($event['kind'] ?? null) && $event['kind'] !== '' ? $json : null;
    }
}
