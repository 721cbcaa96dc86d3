<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * What a reader finds in the store, and what it decides: see "Reading" in format/README.md.
 *
 * @internal
 */
final class Reading
{
    private const MINUTE = 60000;

    /**
     * @param string $outcome current, grace, superseded, moved, unknown, theft, "ended during the
     *     request", "ended before the request", none, or error
     */
    private function __construct(
        public readonly string $outcome,
        public readonly ?Record $record = null,
        public readonly ?FormatException $error = null,
        public readonly int $now = 0,
        public readonly int $revoked = 0,
    ) {
    }

    /**
     * @param array<array-key, string>|null $session the hash; null: the key is no hash
     * @param array<array-key, string>|null $revocations the hash; null: the key is no hash
     * @param string|false|null $revoked the text; false: there is none; null: the key is no string
     * @param string $name the session's: the hash of its selector
     * @param string $verifier the hash of the token's verifier
     * @param int $began when the request began, by the server's clock, rather too early
     * @param int $margin how much too early $began may be
     */
    public static function decide(
        ?array $session, ?array $revocations, string|false|null $revoked,
        string $name, string $verifier, int $generation, int $now, int $began, int $margin = 0,
    ): self {
        try {
            $everybody = self::everybody($revoked);
            [$found, $record, $at] = self::find($session, $revocations, $everybody, $name, $now);
        } catch (FormatException $e) {
            return new self('error', null, $e, $now);
        }
        $outcome = match (true) {
            $found === 'moved' => 'moved',
            $record !== null => self::judge($record, $verifier, $generation, $now, $began),
            $at > 0 && $now - $at < self::MINUTE && $began + $margin < $at => 'ended during the request',
            $now - $began >= self::MINUTE => 'superseded',
            $at > 0 && $now - $at < self::MINUTE => 'ended before the request',
            default => 'none',
        };
        return new self($outcome, $record, null, $now, $everybody);
    }

    /** Returns the time of the last revocation of everybody; 0: never. */
    public static function everybody(string|false|null $revoked): int
    {
        if ($revoked === false) {
            return 0;
        }
        return Text::number($revoked ?? '') ?? throw new FormatException('revoked', 'it is no time');
    }

    /**
     * @param array<array-key, string>|null $session
     * @param array<array-key, string>|null $revocations
     * @return array{string, ?Record, int} "moved" or "", the record if it is live, when it ended or
     *     0
     */
    private static function find(?array $session, ?array $revocations, int $everybody, string $name, int $now): array
    {
        if ($session === null || $revocations === null) {
            throw new FormatException($session === null ? 'session' : 'revocations', 'the key is not a hash');
        }
        if ($session === []) {
            return ['', null, $everybody];
        }
        if (\count($session) === 1 && isset($session['@moved'])) {
            (new Packed('@moved', $session['@moved'], 12))->number(12);
            return ['moved', null, 0];
        }
        if (\count($session) === 1 && isset($session['@ended'])) {
            $p = new Packed('@ended', $session['@ended'], 34);
            $at = $p->number(12);
            $p->hash();
            return ['', null, $at];
        }
        $record = Record::decode($session);
        $since = self::revokedSince($record, $revocations, $name);
        if ($record->created <= $everybody) {
            return ['', null, $everybody];
        }
        return $since === 0 && $record->isLive($now) ? ['', $record, 0] : ['', null, $since];
    }

    /**
     * Returns the time of the user's revocation if it covers the session, or 0.
     *
     * @param array<array-key, string> $revocations
     */
    public static function revokedSince(Record $record, array $revocations, string $name): int
    {
        $text = $record->owner === '' ? null : $revocations[$record->owner] ?? null;
        if ($text === null) {
            return 0;
        }
        $since = \strlen($text) % 34 === 24 ? Text::number(\substr($text, 0, 12), 12, PHP_INT_MAX) : null;
        if ($since === null) {
            throw new FormatException($record->owner, 'the revocation is malformed');
        }
        foreach (\str_split(\substr($text, 24) ?: ' ', 34) as $exception) {
            if (\substr($exception, 0, 22) === $name) {
                return 0;
            }
        }
        return $record->created <= $since ? $since : 0;
    }

    private static function judge(Record $record, string $verifier, int $generation, int $now, int $began): string
    {
        $status = $record->status($verifier, $now);
        return match (true) {
            $status !== 'unknown' => $status,
            $record->isStolen($verifier, $generation, $began) => 'theft',
            $generation < $record->generation && $record->overlaps($verifier, $began) => 'superseded',
            default => 'unknown',
        };
    }

    public function record(): Record
    {
        return $this->record ?? throw new \LogicException('session: no record');
    }

    /** Reports whether the request uses the session. */
    public function opens(): bool
    {
        return $this->outcome === 'current' || $this->outcome === 'grace';
    }
}
