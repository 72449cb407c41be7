-- SPDX-License-Identifier: MIT
-- Rows of a linear congruential generator: filled, indexed, joined, grouped, changed, deleted.
.bail on
PRAGMA cache_size = -200000;
PRAGMA temp_store = MEMORY;

CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE purchase (
  id INTEGER PRIMARY KEY, customer INTEGER, cents INTEGER, day INTEGER, note TEXT);

WITH RECURSIVE number (n, x) AS (
  SELECT 1, 12345
  UNION ALL
  SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 FROM number WHERE n < 20000)
INSERT INTO customer
SELECT n, printf('name-%08x', x), printf('city-%03d', x / 65536 % 500) FROM number;

WITH RECURSIVE number (n, x) AS (
  SELECT 1, 54321
  UNION ALL
  SELECT n + 1, (x * 1103515245 + 12345) % 2147483648 FROM number WHERE n < 250000)
INSERT INTO purchase
SELECT n, 1 + x / 256 % 20000, x / 1024 % 100000, x / 65536 % 365,
       substr(hex(zeroblob(40)), 1, x / 4096 % 80)
FROM number;

CREATE INDEX purchase_by_customer ON purchase (customer, day);
CREATE INDEX customer_by_city ON customer (city, name);
ANALYZE;

SELECT 'rows', count(*), sum(cents), min(day), max(day) FROM purchase;

SELECT city, count(DISTINCT c.id), sum(cents) AS total
FROM customer c JOIN purchase p ON p.customer = c.id
GROUP BY city ORDER BY total DESC, city LIMIT 10;

SELECT day, total, sum(total) OVER (ORDER BY day ROWS 6 PRECEDING)
FROM (SELECT day, sum(cents) AS total FROM purchase GROUP BY day) ORDER BY day LIMIT 10;

SELECT length(group_concat(name, ',')),
       length(json_group_array(json_object('id', id, 'city', city)))
FROM customer;

UPDATE purchase SET note = note || printf('-%d', cents) WHERE day % 7 = 3;
DELETE FROM purchase WHERE cents < 20000;
SELECT 'left', count(*), sum(length(note)) FROM purchase;

SELECT c.name, p.cents, p.note FROM purchase p JOIN customer c ON c.id = p.customer
ORDER BY p.cents DESC, p.id LIMIT 20;

VACUUM;
PRAGMA integrity_check;
